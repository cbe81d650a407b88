"""As whom a process of the embedded services runs (ADR 0002)."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CLONE_NEWUSER = 0x10000000


@dataclass(frozen=True, kw_only=True)
class Identity:
    """As whom Postgres runs: as ourselves, as another user, or in a user namespace as another user."""

    uid: int | None = None
    namespace: bool = False

    def become(self) -> None:
        """Between fork and exec: take the identity on."""
        if self.uid is None:
            return
        if self.namespace:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWUSER):
                raise OSError(ctypes.get_errno(), "unshare")
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{self.uid} 0 1")
            Path("/proc/self/gid_map").write_text(f"{self.uid} 0 1")
        else:
            os.setgroups([])
            os.setgid(self.uid)
            os.setuid(self.uid)

    def own(self, directory: Path) -> None:
        if self.uid is not None and not self.namespace:
            os.chown(directory, self.uid, self.uid)

    def works(self) -> bool:
        """Whether a process can take it on here."""
        try:
            return subprocess.run(["/bin/true"], check=False, preexec_fn=self.become).returncode == 0
        except (OSError, subprocess.SubprocessError):
            return False


def reachable_by_others(path: Path) -> bool:
    """Whether another user may enter the directory and all of its parents."""
    return all(stat.S_IMODE(part.stat().st_mode) & stat.S_IXOTH for part in (path, *path.parents))
