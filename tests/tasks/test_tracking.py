import logging

from tasks.tracking import track, track_run


def test_nothing_is_done_where_no_server_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert track(str(tmp_path), "tiny-1") is None


def test_what_fails_is_told_with_what_sends_it_later_and_raises_nothing(
    monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with caplog.at_level(logging.WARNING, "dcd.tracking"):
        told = track_run.fn(str(tmp_path), "tiny-1")  # there is no such run: nothing can be read
    assert told.endswith(f"send it later: dcd export mlflow tiny-1 --store {tmp_path}")
    assert [record.getMessage() for record in caplog.records] == [told]
