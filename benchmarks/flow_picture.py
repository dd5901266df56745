"""A run as a picture: who uses how much of the account, and how full its bucket stands."""

from __future__ import annotations

from benchmarks.flow_world import Task, World

WIDTH, HEIGHT, LEFT, TOP = 760, 300, 56, 34
SECONDS, STEP = 480, 8
COLOURS = {"w0": "#2f6f9f", "w1": "#4f94c4", "w2": "#7fb4da", "w3": "#b5d5ec", "foreign": "#d98e4a"}
MOMENTS = ((0, "two of four work"), (130, "all work"), (250, "a foreign user takes 40 %"), (380, "it leaves"))


def run() -> tuple[World, list[float]]:
    """Two of four workers have a backlog, then all, then someone else comes and goes; the account's level each step."""
    world = World()
    for at in range(4):
        world.join(f"w{at}", Task("m", 1, 4, has_backlog=at < 2))

    def wake() -> None:
        for worker in world.workers.values():
            worker.tasks["m"].has_backlog = True
            worker.work()

    world.at(130.0, wake)
    world.foreigner(0.4, 250.0, 380.0)
    levels = []
    for until in range(STEP, SECONDS + STEP, STEP):
        world.run(float(until))
        levels.append(max(0.0, 1.0 - world.account.pool.used()["output_tokens"]))
    return world, levels


def picture() -> str:
    """As SVG, readable on light and dark pages."""
    world, levels = run()
    used = {who: [0.0] * len(levels) for who in COLOURS}
    for moment, _, _, output, who in world.account.used:
        step = min(int(moment / STEP), len(levels) - 1)
        used[who.split("/", maxsplit=1)[0]][step] += output / (world.rates.output_tokens / 60.0 * STEP)
    parts = [_head()]
    base = [0.0] * len(levels)
    for who, values in used.items():
        top = [below + value for below, value in zip(base, values, strict=True)]
        parts.append(_area(base, top, COLOURS[who]))
        base = top
    points = " ".join(f"{_x(at)},{_y(level)}" for at, level in enumerate(levels))
    parts.append(f'<polyline points="{points}" fill="none" stroke="#b03030" stroke-width="2" stroke-dasharray="5 3"/>')
    parts += [_moment(seconds, text) for seconds, text in MOMENTS]
    parts += [_scale(), _legend(), "</svg>\n"]
    return "\n".join(parts)


def _x(step: float) -> str:
    return f"{LEFT + step * (WIDTH - LEFT - 10) * STEP / SECONDS:.1f}"


def _y(share: float) -> str:
    return f"{TOP + HEIGHT - min(share, 2.5) / 2.5 * HEIGHT:.1f}"


def _area(low: list[float], high: list[float], colour: str) -> str:
    there = [f"{_x(at)},{_y(value)}" for at, value in enumerate(high)]
    back = [f"{_x(at)},{_y(value)}" for at, value in reversed(list(enumerate(low)))]
    return f'<polygon points="{" ".join(there + back)}" fill="{colour}" stroke="none"/>'


def _head() -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 100}" font-family="sans-serif" font-size="12">\n'
        f"<title>Four workers and a foreign user share one account</title>\n"
        f'<rect width="{WIDTH}" height="{HEIGHT + 100}" fill="#ffffff"/>'
    )


def _moment(seconds: float, text: str) -> str:
    x = _x(seconds / STEP)
    return (
        f'<line x1="{x}" x2="{x}" y1="{TOP - 6}" y2="{TOP + HEIGHT}" stroke="#666" stroke-dasharray="2 3"/>'
        f'<text x="{float(x) + 4:.1f}" y="{TOP - 8}" fill="#333">{text}</text>'
    )


def _scale() -> str:
    lines = []
    for share in (0.5, 1.0, 1.5, 2.0):
        strong = ' stroke-width="2"' if share == 1.0 else ' stroke-opacity="0.25"'
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{_y(share)}" y2="{_y(share)}" stroke="#333"{strong}/>'
            f'<text x="{LEFT - 6}" y="{float(_y(share)) + 4:.1f}" text-anchor="end" fill="#333">{share:.0%}</text>'
        )
    lines += [
        f'<text x="{_x(seconds / STEP)}" y="{TOP + HEIGHT + 18}" text-anchor="middle" fill="#333">{seconds} s</text>'
        for seconds in range(0, SECONDS + 1, 60)
    ]
    return "\n".join(lines)


def _legend() -> str:
    y, x, made = TOP + HEIGHT + 46, LEFT, []
    for who, colour in COLOURS.items():
        name = "foreign user" if who == "foreign" else f"worker {int(who[1:]) + 1}"
        made.append(
            f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/><text x="{x + 17}" y="{y}" fill="#333">{name}</text>'
        )
        x += 108
    made.append(
        f'<line x1="{LEFT}" x2="{LEFT + 24}" y1="{y + 19}" y2="{y + 19}" stroke="#b03030" stroke-width="2" stroke-dasharray="5 3"/>'
        f'<text x="{LEFT + 30}" y="{y + 23}" fill="#333">how full the account\'s bucket is; areas: output used, as part of the limit</text>'
    )
    return "\n".join(made)
