"""What is left on the file systems that a node writes to."""

import os

from bdserver.core.attention import Disk
from bdserver.files import disks


def test_a_file_system_is_looked_at_once_and_a_folder_that_is_not_there_is_left_out(tmp_path):
    (tmp_path / "a").mkdir()
    [disk] = disks.look([str(tmp_path / "nowhere"), str(tmp_path), str(tmp_path / "a")])
    said = os.statvfs(tmp_path)
    assert disk.folder == str(tmp_path) and 0 < disk.share_left <= 1 and 0 < disk.inodes_share_left <= 1
    assert abs(disk.bytes_left - said.f_bavail * said.f_frsize) < 1 << 30


def test_a_file_system_that_does_not_count_has_room():
    [disk] = disks.look(["/proc"])
    assert disk == Disk("/proc", 1 << 60, 1.0, 1.0)
