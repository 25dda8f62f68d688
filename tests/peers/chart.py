"""A chart of ratios, in SVG: how much more or less than Sandpool others take."""

import math
from xml.sax.saxutils import escape

# Grey values, hatches and outlines differ as well as colours: it can be read without them.
STYLES = [
    ('fill="#3b6ea5"', "solid"),
    ('fill="url(#hatch)" stroke="#b3541e" stroke-width="1"', "hatched"),
    ('fill="#ffffff" stroke="#333333" stroke-width="1.5"', "outlined"),
]
BAR, GAP, TOP = 13, 14, 96
# Names end at `NAMES`; the plot begins behind room for what stands left of its bars, and has the same behind it.
NAMES, LEFT, WIDTH, RIGHT = 236, 370, 600, 140


def draw(title, subtitle, rows):
    """`rows`: a label, a note, and for each peer its name, its ratio to Sandpool or None, and a label."""
    names = [name for name, _, _ in rows[0][2]]
    ratios = [ratio for _, _, peers in rows for _, ratio, _ in peers if ratio]
    low = math.floor(min(math.log10(ratio) for ratio in [*ratios, 1.0]) - 0.15)
    high = math.ceil(max(math.log10(ratio) for ratio in [*ratios, 1.0]) + 0.15)
    x = lambda ratio: LEFT + (math.log10(ratio) - low) / (high - low) * WIDTH
    heights = [GAP + BAR * max(2, sum(1 for _, ratio, _ in peers if ratio)) for _, _, peers in rows]
    bottom = TOP + sum(heights) + 8
    total = (LEFT + WIDTH + RIGHT, bottom + 60)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total[0]} {total[1]}" '
        f'width="{total[0]}" height="{total[1]}" font-family="Helvetica, Arial, sans-serif" font-size="12" '
        'fill="#111111">',
        f"<title>{escape(title)}</title>",
        '<defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="5" height="5" fill="#fbe3d3"/><rect width="2" height="5" fill="#b3541e"/></pattern></defs>',
        f'<rect width="{total[0]}" height="{total[1]}" fill="#ffffff"/>',
        f'<text x="16" y="28" font-size="18" font-weight="bold">{escape(title)}</text>',
        f'<text x="16" y="48" fill="#444444">{escape(subtitle)}</text>',
    ]
    at = 16
    for name, (style, _) in zip(names, STYLES):
        out.append(f'<rect x="{at}" y="60" width="22" height="11" {style}/>')
        out.append(f'<text x="{at + 28}" y="70">{escape(name)}</text>')
        at += 52 + 7 * len(name)

    for power in range(low, high + 1):
        here = x(10**power)
        weight = 'stroke="#111111" stroke-width="1.5"' if power == 0 else 'stroke="#dddddd"'
        label = "as Sandpool" if power == 0 else f"{10 ** abs(power)} × {'more' if power > 0 else 'less'}"
        out.append(f'<line x1="{here:.1f}" x2="{here:.1f}" y1="{TOP - 6}" y2="{bottom}" {weight}/>')
        out.append(f'<text x="{here:.1f}" y="{bottom + 18}" text-anchor="middle">{label}</text>')
    out.append(
        f'<text x="{x(1):.1f}" y="{bottom + 40}" text-anchor="middle" fill="#444444">'
        "← takes less than Sandpool · takes more →   (logarithmic)</text>"
    )

    y = TOP
    for (label, note, peers), height in zip(rows, heights):
        middle = y + (height - GAP) / 2
        out.append(f'<text x="{NAMES}" y="{middle + 1:.1f}" text-anchor="end">{escape(label)}</text>')
        out.append(
            f'<text x="{NAMES}" y="{middle + 14:.1f}" text-anchor="end" font-size="10" fill="#555555">'
            f"{escape(note)}</text>"
        )
        top = y
        for (_, ratio, text), (style, _) in zip(peers, STYLES):
            if not ratio:
                continue
            begin, end = sorted((x(1), x(ratio)))
            out.append(
                f'<rect x="{begin:.1f}" y="{top + 1:.1f}" width="{max(end - begin, 1):.1f}" height="{BAR - 2}" {style}/>'
            )
            place, anchor = (x(ratio) + 5, "start") if ratio >= 1 else (x(ratio) - 5, "end")
            out.append(
                f'<text x="{place:.1f}" y="{top + BAR - 3:.1f}" text-anchor="{anchor}" font-size="10">{escape(text)}</text>'
            )
            top += BAR
        y += height
    out.append("</svg>\n")
    return "\n".join(out)
