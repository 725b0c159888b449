"""A .bdcert's values: what each may say, and which file and line is wrong."""

import pytest

from bdserver.errors import BDError
from bdserver.files.bdcert import read_service


@pytest.mark.parametrize("edition", ["7", "x:sha", "-1:sha", "99999999999999999999:sha", "7:" + 999 * "a", ":"])
def test_an_edition_is_a_counter_and_a_digest(tmp_path, edition):
    (tmp_path / "Echo").write_text("")
    (tmp_path / "Echo.bdcert").write_text(f"weight=1\nedition={edition}\n")
    with pytest.raises(BDError, match=r"Echo\.bdcert:2: "):
        read_service(str(tmp_path), "Echo")
