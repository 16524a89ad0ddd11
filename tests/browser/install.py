"""A browser for the tests: one that is installed, else one from apt, else Playwright's own.

python tests/browser/install.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """The path of an installed Chromium or Chrome; `CHROMIUM` names one. None: use Playwright's."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def apt_get(*arguments: str) -> bool:
    """Run apt-get where that is possible without a password; whether it went well."""
    if shutil.which("apt-get") is None:
        return False
    rights = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    if rights and shutil.which("sudo") is None:
        return False
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = [*rights, "apt-get", "--quiet", "--yes", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode == 0


def main() -> None:
    if find_chromium() is not None:
        return
    # Ubuntu's package of that name is only a pointer to a snap, so look again afterwards
    if apt_get("update") and apt_get("install", "--no-install-recommends", "chromium"):
        found = find_chromium()
        if found is not None and works(found):
            return
    subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True)


def works(path: str) -> bool:
    """Whether the browser starts at all."""
    return subprocess.run([path, "--version"], check=False).returncode == 0


if __name__ == "__main__":
    main()
