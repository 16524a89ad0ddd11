"""A browser for the tests: the headless shell of Debian, else an installed one, else Playwright's.

The shell draws no window, so a page takes it about half the time of a whole browser.

python tests/browser/install.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

SHELL = "chromium-headless-shell"
NAMES = (SHELL, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


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
    found = find_chromium()
    if found is not None and (os.environ.get("CHROMIUM") or found.endswith(SHELL)):
        return
    if apt_get("update") and apt_get("install", "--no-install-recommends", SHELL):
        return
    if found is None:
        command = [sys.executable, "-m", "playwright", "install", "--only-shell", "chromium"]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
