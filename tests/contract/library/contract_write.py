"""Ansible module: write rendered texts below a folder, each under its template's name without ``.j2``."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "files": {"type": "dict", "required": True},
        }
    )
    for name, text in module.params["files"].items():
        target = Path(module.params["directory"]) / name.removesuffix(".j2")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text or "", encoding="utf-8")
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
