#!/usr/bin/python
"""Ansible module: wait until a socket-activated web service is ready, and see that it stays so.

Owns the decision "this release may serve". It asks the application over its unix socket and systemd about the unit: a
process that answers once and dies, or that is started again and again, is not ready. Changes nothing on the host.
Runs on hosts, so it keeps to Python 3.6 and the standard library.
"""

from __future__ import annotations

import http.client
import socket
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: ready_gate
short_description: Wait until a service is ready and stays so
description:
  - Polls a path on a unix socket until it answers 200, then goes on for a while and fails when the answer turns bad or systemd
    started the unit's main process again.
options:
  unit: {description: The systemd unit, type: str, required: true}
  socket: {description: The unix socket it answers on, type: path, required: true}
  path: {description: What is asked for, type: str, default: /ready}
  timeout_seconds: {description: How long it may take to become ready, type: int, default: 60}
  stable_seconds: {description: How long it must stay ready, type: int, default: 5}
author: [Hockey Hub Chat]
"""

EXAMPLES = r"""
- name: Wait for the chat
  ready_gate:
    unit: hockey-hub-chat.service
    socket: /run/hockey-hub-chat/app.sock
"""

RETURN = r"""
seconds: {description: Until it was ready for the first time, type: float, returned: success}
"""

PAUSE_SECONDS = 0.2


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.socket_path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.socket_path)


def ask(path: str, what: str) -> str:
    """Return an empty string when the answer is 200, else what was answered in a few words."""
    connection = UnixConnection(path, timeout=5)
    try:
        connection.request("GET", what, headers={"Host": "localhost", "Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(400).decode("utf-8", "replace").strip()
        return "" if answer.status == 200 else f"{what} answered {answer.status}: {body}"
    except (OSError, http.client.HTTPException) as problem:
        return f"{what} was not answered: {problem or type(problem).__name__}"
    finally:
        connection.close()


def unit_state(unit: str) -> dict[str, str]:
    """Return systemd's view of the unit: ActiveState, MainPID and how often it was started again."""
    wanted = "--property=ActiveState,SubState,MainPID,NRestarts,Result"
    result = subprocess.run(["systemctl", "show", wanted, "--", unit], stdout=subprocess.PIPE, check=True, text=True)
    return dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)


def trouble(state: dict[str, str], path: str, what: str) -> str:
    """Return why the service is not ready at this moment, or an empty string."""
    if state["ActiveState"] != "active":
        return "the unit is {ActiveState} ({SubState}, result {Result})".format(**state)
    return ask(path, what)


def main() -> None:
    """Wait; exit with the seconds it took, or fail saying what was wrong last."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "socket": {"type": "path", "required": True},
            "path": {"type": "str", "default": "/ready"},
            "timeout_seconds": {"type": "int", "default": 60},
            "stable_seconds": {"type": "int", "default": 5},
        },
        supports_check_mode=True,
    )
    unit, path, what = module.params["unit"], module.params["socket"], module.params["path"]
    begin = time.monotonic()
    deadline = begin + module.params["timeout_seconds"]
    first = unit_state(unit)
    while True:
        state = unit_state(unit)
        problem = trouble(state, path, what)
        if not problem:
            break
        if state["ActiveState"] in ("failed", "inactive"):
            module.fail_json(msg=f"{unit} is not running: {problem}.")
        if int(state["NRestarts"]) - int(first["NRestarts"]) >= 3:
            module.fail_json(msg=f"{unit} keeps dying: {problem}.")
        if time.monotonic() > deadline:
            module.fail_json(
                msg="{} was not ready within {} s: {}.".format(unit, module.params["timeout_seconds"], problem)
            )
        time.sleep(PAUSE_SECONDS)
    ready = time.monotonic()
    while time.monotonic() < ready + module.params["stable_seconds"]:
        time.sleep(PAUSE_SECONDS)
        now = unit_state(unit)
        problem = trouble(now, path, what)
        if problem or now["MainPID"] != state["MainPID"] or now["NRestarts"] != state["NRestarts"]:
            died = f"its main process died {time.monotonic() - ready:.1f} s after it was ready"
            module.fail_json(msg=f"{unit} did not stay ready: {problem or died}.")
    module.exit_json(changed=False, seconds=round(ready - begin, 2))


if __name__ == "__main__":
    main()
