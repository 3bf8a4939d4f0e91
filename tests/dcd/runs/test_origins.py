from dcd.runs.origins import origins_json
from dcd.selection.select import SelectionInfo


def test_a_run_that_reused_its_selection_writes_the_same():
    made, reused = (SelectionInfo("s1", 3, 20, reused) for reused in (False, True))
    assert origins_json({0: {}}, {0: made}) == origins_json({0: {}}, {0: reused})
