"""Filter that writes names the way a certificate's subjectAltName wants them."""

from __future__ import annotations

import ipaddress
from typing import Any


def tls_certificates_san(names: list[str]) -> list[str]:
    """Return ``IP:…`` for addresses and ``DNS:…`` for names, in order, each once."""
    result: list[str] = []
    for name in names:
        try:
            entry = f"IP:{ipaddress.ip_address(name.strip('[]'))}"
        except ValueError:
            entry = f"DNS:{name.lower()}"
        if entry not in result:
            result.append(entry)
    return result


class FilterModule:
    """Give Ansible the filter."""

    def filters(self) -> dict[str, Any]:
        """Return name -> function."""
        return {"tls_certificates_san": tls_certificates_san}
