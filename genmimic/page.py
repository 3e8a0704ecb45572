# SPDX-License-Identifier: Apache-2.0
"""Pages that need no other file and no network: style, tables, plots and a player of stick figures.

Light or dark as the reader's system is, and readable on a phone. Plots are SVG whose colours follow the page.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genmimic.core.files import whole_file

# Colours in plots, each a name of the page's style. matplotlib draws with these, the page shows its own.
INK, MUTED, LINE, SHADE = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04"
ROBOT, GOAL, BAD, WARN, OTHER = "#0a0b05", "#0a0b06", "#0a0b07", "#0a0b08", "#0a0b09"
_NAMES = {INK: "ink", MUTED: "muted", LINE: "line", SHADE: "shade", ROBOT: "robot", GOAL: "goal", BAD: "bad",
          WARN: "warn", OTHER: "other"}  # fmt: skip

MAX_PLAYER_FRAMES = 1500

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--card:#f6f7f9;--ink:#1c2024;--muted:#646c76;--line:#dfe3e8;--shade:#eef0f3;
--robot:#1f5fa8;--goal:#1a9a58;--bad:#b3261e;--warn:#a86b00;--other:#d0572b;--good:#1f7f4a}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1d2125;--ink:#e6e9ec;--muted:#9aa3ad;--line:#343a41;
--shade:#22272c;--robot:#6aa9f0;--goal:#4cc98a;--bad:#ff7a70;--warn:#f0b34a;--other:#ff9466;--good:#4cc98a}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;margin:0 auto;max-width:1080px;padding:24px 20px 60px;
background:var(--bg);color:var(--ink)}
h1{font-size:25px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere} h2{font-size:18px;margin:36px 0 8px}
h3{font-size:15px;margin:20px 0 6px} p{margin:6px 0} a{color:var(--robot)}
.muted{color:var(--muted);font-size:13.5px} .bad{color:var(--bad)} .good{color:var(--good)} .warn{color:var(--warn)}
.chip{display:inline-block;padding:2px 12px;border-radius:14px;font-weight:600;color:var(--bg);background:var(--good)}
.chip.bad{background:var(--bad);color:var(--bg)} .chip.warn{background:var(--warn);color:var(--bg)}
.chip.neutral{background:var(--muted)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(138px,1fr));gap:10px;margin:18px 0}
.tile{background:var(--card);border-radius:10px;padding:10px 14px}
.tile b{display:block;font-size:22px;font-weight:650;font-variant-numeric:tabular-nums;white-space:nowrap}
.tile span{color:var(--muted);font-size:13px}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
td,th{padding:6px 10px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{color:var(--muted);font-weight:600;font-size:13px} td.n,th.n{text-align:right;white-space:nowrap}
tr.strong td{font-weight:650} tr.ref td{color:var(--muted)} td{overflow-wrap:anywhere}
td.k{width:11em;color:var(--muted)}
td.w{min-width:15em}
td:first-child{min-width:6.2em} td.k{min-width:8.4em;overflow-wrap:normal}
img,video{max-width:100%;height:auto;border-radius:8px;display:block} img{background:#fff}
svg.plot{width:100%;height:auto;display:block} svg.plot text{font-family:inherit!important}
details{margin:10px 0} summary{cursor:pointer;color:var(--muted)}
code{font:13px/1.4 ui-monospace,SFMono-Regular,Menlo,monospace;background:var(--card);padding:1px 5px;border-radius:4px;
overflow-wrap:anywhere} pre{background:var(--card);padding:12px 14px;border-radius:8px;overflow-x:auto}
pre code{padding:0;overflow-wrap:normal}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:18px;align-items:start}
.player{background:var(--card);border-radius:10px;overflow:hidden} .player canvas{width:100%;display:block;
touch-action:pan-y;cursor:grab} .bar{display:flex;flex-wrap:wrap;gap:4px 10px;align-items:center;
padding:6px 12px 10px;font-size:13px}
.bar output{white-space:nowrap}
.bar input[type=range]{flex:1;min-width:90px;accent-color:var(--robot)}
button{font:inherit;border:1px solid var(--line);background:var(--bg);color:var(--ink);border-radius:7px;
padding:4px 12px;cursor:pointer} button.on{background:var(--robot);color:var(--bg);border-color:var(--robot)}
.key{display:inline-flex;align-items:center;gap:5px;white-space:nowrap}.key i{width:11px;height:11px;border-radius:50%}
@media(max-width:560px){body{padding:16px 12px 40px} h1{font-size:21px}
td,th{padding:5px 6px} td.k{width:8.4em}svg.plot{min-width:600px}}
@media print{.bar{display:none}}
"""

_PLAYER = """
(()=>{const css=n=>getComputedStyle(document.documentElement).getPropertyValue('--'+n).trim();
document.querySelectorAll('.player').forEach(box=>{
const d=JSON.parse(box.querySelector('script').textContent),K=d.keypoints,canvas=box.querySelector('canvas');
const bodies=d.bodies.map(b=>({...b,p:new Int16Array(Uint8Array.from(atob(b.data),c=>c.charCodeAt(0)).buffer)}));
const T=d.frames,slider=box.querySelector('input'),button=box.querySelector('button'),clock=box.querySelector('output');
let at=0,playing=false,seen=false,yaw=d.yaw,pitch=0.18,last=0;
slider.max=T-1;
const still=matchMedia('(prefers-reduced-motion: reduce)').matches;
function draw(){const r=devicePixelRatio||1,w=canvas.clientWidth,h=Math.min(420,Math.max(240,w*0.62));
 canvas.style.height=h+'px';if(canvas.width!==Math.round(w*r)||canvas.height!==Math.round(h*r)){
 canvas.width=Math.round(w*r);canvas.height=Math.round(h*r)}
 const g=canvas.getContext('2d');g.setTransform(r,0,0,r,0,0);g.clearRect(0,0,w,h);
 const f=Math.floor(at),lead=bodies[bodies.length-1].p,o=f*K*3,cx=lead[o]/1000,cy=lead[o+1]/1000;
 const s=h/1.75,cs=Math.cos(yaw),sn=Math.sin(yaw),cp=Math.cos(pitch),sp=Math.sin(pitch);
 const view=(x,y,z)=>{x-=cx;y-=cy;const u=-sn*x+cs*y,v=cs*x+sn*y;return[w/2+s*u,h*0.9-s*(z*cp-v*sp)*0.97]};
 g.lineCap='round';g.strokeStyle=css('line');g.lineWidth=1;const gx=Math.round(cx*2)/2,gy=Math.round(cy*2)/2;
 for(let i=-4;i<=4;i++){g.beginPath();g.moveTo(...view(gx+i/2,gy-2,0));g.lineTo(...view(gx+i/2,gy+2,0));
 g.moveTo(...view(gx-2,gy+i/2,0));g.lineTo(...view(gx+2,gy+i/2,0));g.stroke()}
 bodies.forEach((b,n)=>{const lead=n===bodies.length-1&&bodies.length>1;const P=k=>{const i=o+3*k;
 return view(b.p[i]/1000,b.p[i+1]/1000,b.p[i+2]/1000)};
 const colour=css(b.fell>=0&&f>=b.fell?'bad':b.colour);g.strokeStyle=g.fillStyle=colour;
 g.globalAlpha=b.colour==='goal'?0.65:1;g.lineWidth=b.colour==='goal'?6:3.2;
 g.beginPath();d.bones.forEach(([a,c])=>{g.moveTo(...P(a));g.lineTo(...P(c))});g.stroke();
 d.ends.forEach((k,i)=>{const q=P(k);g.beginPath();g.arc(q[0],q[1],i?4:9,0,7);g.fill()});g.globalAlpha=1});
 clock.textContent=(d.start+f/d.fps).toFixed(1)+' s';slider.value=f}
function step(t){if(playing){at+=(t-last)/1000*d.fps;if(at>=T)at=0;draw()}last=t;if(playing)requestAnimationFrame(step)}
function play(on){playing=on;button.textContent=on?'Pause':'Play';
 if(on){last=performance.now();requestAnimationFrame(step)}}
button.onclick=()=>play(!playing);slider.oninput=()=>{play(false);at=+slider.value;draw()};
let from=null;canvas.onpointerdown=e=>{from=[e.clientX,e.clientY,yaw,pitch];canvas.setPointerCapture(e.pointerId)};
canvas.onpointermove=e=>{if(from){yaw=from[2]-(e.clientX-from[0])/120;
pitch=Math.max(-0.1,Math.min(1.4,from[3]+(e.clientY-from[1])/180));draw()}};
canvas.onpointerup=canvas.onpointercancel=()=>{from=null};
new IntersectionObserver(x=>{if(x[0].isIntersecting&&!seen){seen=true;if(!still)play(true)}
else if(!x[0].isIntersecting)play(false)}).observe(canvas);
addEventListener('resize',draw);matchMedia('(prefers-color-scheme: dark)').addEventListener('change',draw);draw()})})()
"""


class Page:
    """A page that grows from above to below.

    Args:
        title: Of the window.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[str] = []
        self._scripts: list[str] = []

    def add(self, *parts: str) -> None:
        """Add HTML."""
        self._parts += parts
        if any('class="player"' in part for part in parts):
            self.script(_PLAYER)

    def section(self, title: str, *parts: str, note: str = "") -> None:
        """Add a heading, a line about what is below it, and ``parts``."""
        self.add(f"<h2>{text(title)}</h2>", f'<p class="muted">{note}</p>' if note else "", *parts)

    def script(self, code: str) -> None:
        """Add JavaScript at the end, once."""
        if code not in self._scripts:
            self._scripts.append(code)

    def render(self) -> str:
        """Return the whole page."""
        scripts = "".join(f"<script>{code}</script>" for code in self._scripts)
        body = "\n".join(part for part in self._parts if part)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{text(self.title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n{scripts}</body></html>\n"
        )

    def save(self, path: str | Path) -> Path:
        """Write the page, whole or not at all. Raises InputFileError."""
        path = Path(path)
        with whole_file(path) as temporary:
            temporary.write_text(self.render(), encoding="utf-8")
        return path


def text(value: object) -> str:
    """Return ``value`` as text that is safe in HTML."""
    return html.escape(str(value))


def script_json(value: Any) -> str:
    """Return ``value`` as JSON that is safe inside a script."""
    return json.dumps(value).replace("<", "\\u003c")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str] = (), left: int = 1) -> str:
    """Return a table of cells that are HTML already; the first ``left`` columns are text, the others numbers.

    ``classes``: one for each row: ``strong``, ``ref`` or empty.
    """

    def cell(tag: str, column: int, value: str) -> str:
        kind = " class=n" if column >= left else " class=w" if column else ""
        return f"<{tag}{kind}>{value}</{tag}>"

    lines = ["<tr>" + "".join(cell("th", column, value) for column, value in enumerate(head)) + "</tr>"] if head else []
    for number, row in enumerate(rows):
        kind = classes[number] if number < len(classes) else ""
        begin = f"<tr class={kind}>" if kind else "<tr>"
        lines.append(begin + "".join(cell("td", column, value) for column, value in enumerate(row)) + "</tr>")
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Return a table of names and values; values are HTML already, empty ones are left out."""
    rows = "".join(f"<tr><td class=k>{text(name)}</td><td>{value}</td></tr>" for name, value in pairs if value)
    return f'<div class="scroll"><table>{rows}</table></div>'


def tiles(entries: Sequence[tuple[str, str, str]]) -> str:
    """Return large numbers with what they are: value, label, and ``good``, ``bad``, ``warn`` or empty."""
    cells = "".join(
        f'<div class="tile"><b{f" class={kind}" if kind else ""}>{text(value)}</b><span>{text(label)}</span></div>'
        for value, label, kind in entries
    )
    return f'<div class="tiles">{cells}</div>'


def chip(words: str, kind: str = "good") -> str:
    """Return a verdict: ``kind`` is ``good``, ``bad`` or ``warn``."""
    return f'<span class="chip {kind}">{text(words)}</span>'


def embedded(data: bytes, kind: str) -> str:
    """Return a data address; ``kind`` such as ``image/png``."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


# plots -----------------------------------------------------------------------------------------
def figure(width: float = 10.0, height: float = 3.0) -> Any:
    """Return a matplotlib figure for `svg`; inches, of which a page is 10 wide."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def style_axis(axis: Any, unit: str = "", title: str = "", x_label: str = "") -> None:
    """Give an axis the page's looks."""
    axis.set_ylabel(unit, color=MUTED, fontsize=9)
    axis.set_xlabel(x_label, color=MUTED, fontsize=9)
    if title:
        axis.set_title(title, fontsize=10, loc="left", color=INK)
    axis.grid(color=LINE, lw=0.7)
    axis.set_axisbelow(True)
    axis.set_facecolor("none")
    axis.tick_params(colors=MUTED, labelsize=8.5, length=0)
    for name, spine in axis.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(LINE)
    handles = axis.get_legend_handles_labels()[0]
    if handles:
        axis.legend(fontsize=8.5, loc="best", frameon=False, labelcolor=INK, ncols=min(3, len(handles)))


def svg(figure: Any, name: str, label: str) -> str:
    """Return a figure as inline SVG whose colours follow the page; ``label`` says what it shows to those who listen."""
    import matplotlib

    buffer = io.StringIO()
    figure.patch.set_alpha(0.0)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "path.simplify_threshold": 0.4}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    found = re.search(r"<svg.*</svg>", buffer.getvalue(), flags=re.DOTALL)
    drawn = found[0] if found else ""
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    for colour, variable in _NAMES.items():
        drawn = drawn.replace(colour, f"var(--{variable})")
    drawn = re.sub(r' (width|height)="[\d.]+pt"', "", drawn, count=2)
    drawn = drawn.replace("<svg ", f'<svg class="plot" role="img" aria-label="{text(label)}" ', 1)
    return f'<div class="scroll">{drawn}</div>'


def thinned(t: np.ndarray, values: np.ndarray, points: int = 1200) -> tuple[np.ndarray, np.ndarray]:
    """Return a long curve with at most about ``points``: the largest of each stretch, so that peaks stay."""
    if len(t) <= points:
        return t, values
    size = -(-len(t) // points)
    whole = len(t) // size * size
    return t[:whole].reshape(-1, size)[:, 0], np.nanmax(values[:whole].reshape(-1, size), axis=1)


# the player ------------------------------------------------------------------------------------
def player(
    bodies: Sequence[tuple[str, str, np.ndarray, int | None]],
    bones: Sequence[tuple[int, int]],
    ends: Sequence[int],
    fps: float,
    start_s: float = 0.0,
    yaw: float = 0.6,
) -> str:
    """Return a player of stick figures: to be turned by dragging, and moved through time.

    Args:
        bodies: Label, colour's name (``robot``, ``other``, ``goal``), keypoints in m, world, z up (T, K, 3), and the
            frame from which it has fallen or None. The view follows the pelvis of the last.
        bones: Pairs of keypoints joined by a line.
        ends: Keypoints drawn as dots, the head first.
        fps: Of the frames, in Hz.
        start_s: Time of the first.
        yaw: From where it is seen at first, in rad about z; 0 is from the front of one that faces x.
    """
    frames = min(len(positions) for _, _, positions, _ in bodies)
    every = max(1, round(fps / 25.0), -(-frames // MAX_PLAYER_FRAMES))
    shown = []
    for label, colour, positions, fell in bodies:
        kept = np.clip(np.round(1000.0 * positions[:frames:every]), -32767, 32767).astype("<i2")
        shown.append(
            {"label": label, "colour": colour, "fell": -1 if fell is None else max(0, int(fell)) // every,
             "data": base64.b64encode(kept.tobytes()).decode("ascii")}
        )  # fmt: skip
    data = {
        "frames": len(range(0, frames, every)), "keypoints": bodies[0][2].shape[1], "fps": fps / every,
        "start": round(float(start_s), 3), "yaw": yaw, "bones": [list(map(int, bone)) for bone in bones],
        "ends": [int(end) for end in ends], "bodies": shown,
    }  # fmt: skip
    keys = "".join(
        f'<span class="key"><i style="background:var(--{colour})"></i>{text(label)}</span>'
        for label, colour, _, _ in bodies
    )
    return (
        '<div class="player"><canvas aria-label="stick figures; drag to turn"></canvas><div class="bar">'
        f'<button type="button">Play</button><input type="range" min="0" value="0" aria-label="time"><output></output>'
        f'{keys}</div><script type="application/json">{script_json(data)}</script></div>'
    )


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """Return a number for people, a dash for none."""
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:.{digits}f}{unit}"


def interval(pair: Sequence[float] | None, digits: int = 1, factor: float = 1.0) -> str:
    """Return ``[low, high]``, or nothing."""
    return "" if pair is None else f"[{factor * pair[0]:.{digits}f}, {factor * pair[1]:.{digits}f}]"


def rate(value: float | None, pair: Sequence[float] | None = None) -> str:
    """Return a share in percent with its interval."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" + (f" {interval(pair, 1, 100.0)}" if pair is not None else "")
