import pytest

from dcd.report.point_names import Point, name_points
from dcd.report.svg import INK, Size, drawing


def placed(points: list[Point]):
    """The box of every name in pixels, and the number of leaders."""
    with drawing(Size(600, 400, 12), "names") as figure:
        axes = figure.subplots()
        for point in points:
            axes.plot(point.x[1], point.y[1], "o")
        n_lines = len(axes.lines)
        name_points(figure, axes, points)
        renderer = figure.canvas.get_renderer()  # pyright: ignore[reportAttributeAccessIssue]
        boxes = {text.get_text(): text.get_window_extent(renderer) for text in axes.texts}
        return boxes, len(axes.lines) - n_lines, axes.get_window_extent(renderer)


def point(name: str, x: float, y: float) -> Point:
    return Point(name, (x, x, x), (y, y, y), INK)


def test_a_lonely_point_has_its_name_beside_it_without_a_leader():
    boxes, n_leaders, inside = placed([point("one", 0, 0), point("far away", 9, 9)])
    assert n_leaders == 0
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes.values())


@pytest.mark.parametrize("n", [4, 8])
def test_names_of_points_on_one_spot_lie_apart(n: int):
    crowd = [point(f"method {i}", 1, 1) for i in range(n)]
    boxes, _, _ = placed([*crowd, point("low", 0, 0), point("high", 2, 2)])
    names = [boxes[p.name] for p in crowd]
    for i, box in enumerate(names):
        assert not any(box.overlaps(other) for other in names[i + 1 :])


def test_far_names_have_a_leader():
    _, n_leaders, _ = placed([point(f"a longer name {i}", 1, 1) for i in range(12)])
    assert n_leaders > 0
