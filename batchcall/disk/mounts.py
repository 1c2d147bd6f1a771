"""Whether a folder is on a network file system: locks and syncs may do nothing there."""

from __future__ import annotations

import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")  # of Linux; on other systems no folder is refused

# As the kernel names them in mountinfo, proc(5).
NETWORK = frozenset(
    {
        "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
        "orangefs", "pvfs2", "smb3", "smbfs",
        "fuse.ceph", "fuse.cephfs", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs",
        "fuse.mount-s3", "fuse.rclone", "fuse.s3fs", "fuse.smbnetfs", "fuse.sshfs",
    }
)  # fmt: skip


def network_file_system(folder: Path) -> tuple[str, str] | None:
    """The mount point and type of the network file system that holds `folder` or will; None when it is a local one."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    point, kind = holder_of_path(folder.resolve(), mounts)
    return (point, kind) if kind in NETWORK else None


def holder_of_path(path: Path, mounts: str) -> tuple[str, str]:
    """The mount point and type of what holds an absolute path, by the text of mountinfo. The last mount wins."""
    best = ("/", "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 5 or not kinds[0]:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4])  # a space is written as \040
        if path.is_relative_to(point) and len(Path(point).parts) >= len(Path(best[0]).parts):
            best = (point, kinds[0])
    return best
