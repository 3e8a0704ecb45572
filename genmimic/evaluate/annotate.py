# SPDX-License-Identifier: Apache-2.0
"""Visual success rate (VSR): a page to judge robot against film by eye, and the paper's Table 2 from the verdicts.

Paper 5.4: a trial fails with "any excessive stumbling or inability to visually follow a critical keypoint, such as a
hand or foot". A motion's VSR is the share of its trials that succeed, a category's the mean over its motions.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmimic import page as p
from genmimic.core.errors import ConfigError, GenMimicError, InputFileError
from genmimic.core.robot import Robot
from genmimic.evaluate.bench import PAPER_TABLE_2
from genmimic.evaluate.report import load_trajectory
from genmimic.evaluate.report_page import body_player, render_film
from genmimic.evaluate.runs import Run
from genmimic.sim.video import web_video

VERDICTS_FORMAT = "genmimic-verdicts/1"
MAX_VERDICTS_BYTES = 64 * 1024 * 1024
REASONS = ("stumbled", "a hand did not follow", "a foot did not follow", "did not turn or walk as shown", "fell")
VIDEO_SUFFIXES = (".mp4", ".webm", ".m4v", ".mov", ".avi", ".mkv", ".gif")

_GUESSES = (
    ("walk+turn", ("walk*turn",)),
    ("2 x 180 turn", ("180*180", "turn*back*turn")), ("180 turn", ("180", "turn*back", "turn*around")),
    ("90 turn", ("90", "turn")), ("walk", ("walk",)), ("step lateral", ("side*step",)),
    ("step forward", ("step",)), ("raise leg", ("leg", "kick")), ("sequence", ("then", "sequence")),
    ("wave", ("wave",)), ("raise", ("raise", "hands_up")), ("reach", ("reach", "point", "touch", "thumb")),
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One trial to judge.

    Attributes:
        id: The same whenever the page is made of the same trial.
        motion, policy: Names.
        trial: Counts from 1 for each motion and policy.
        source: HTML of the film that was to be imitated, or of what stands for it.
        robot: HTML of the robot.
    """

    id: str
    motion: str
    policy: str
    trial: int
    source: str
    robot: str


def find_items(
    runs: Sequence[Run],
    robot: Robot,
    videos: str | Path | None = None,
    robot_videos: str | Path | None = None,
    draw: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> list[Item]:
    """Return the trials of runs, and of the kept rollouts of evaluations.

    Args:
        runs: Where to look.
        robot: The robot.
        videos: Folder of films named as the motions; without one the goal's stick figure stands for it.
        robot_videos: Folder of films of the real robot, named as the runs' folders.
        draw: Draw the robot where there is no film of it; without, and where that cannot be done, it is a stick figure.
        say: Called with one line for each trial.

    Raises:
        ConfigError: There is nothing to judge.
        InputFileError: A film cannot be read.
    """
    items: list[Item] = []
    counts: dict[tuple[str, str], int] = {}
    for run in runs:
        folders: list[tuple[str, Path | None]] = (
            [(str(run.report["motion"]), None)] if run.trajectory is not None else []
        )
        for entry in run.report["motions"]:
            folders += [(str(entry["motion"]), folder) for folder in run.kept(entry)]
        for motion, folder in folders:
            trajectory = run.trajectory if folder is None else load_trajectory(folder, robot)
            assert trajectory is not None
            policy = str(run.report["policy"])
            counts[motion, policy] = trial = counts.get((motion, policy), 0) + 1
            say(f"{motion}, {policy}, trial {trial}")
            digest = hashlib.sha256(trajectory["keypoint_pos"].astype("<f4").tobytes()).hexdigest()[:16]
            film = _film(videos, motion)
            source = _video(film) if film else body_player(trajectory["goal_keypoint_pos"], robot, "goal")
            place = run.folder.resolve().name if folder is None else folder.name
            own = _film(robot_videos, place)
            shown = _video(own) if own else ""
            if not shown and draw:
                drawn, _ = render_film(trajectory, robot)
                shown = _tag(drawn, "video/mp4") if drawn else ""
            items.append(
                Item(
                    digest,
                    motion,
                    policy,
                    trial,
                    source,
                    shown or body_player(trajectory["keypoint_pos"], robot, "robot"),
                )
            )
    if not items:
        raise ConfigError("nothing to judge: no run has a trajectory.npz, no evaluation kept rollouts (--keep)")
    return items


def guess_action(motion: str) -> str:
    """Return the action of Table 2 that a motion's name speaks of; empty when none."""
    name = motion.lower()
    for action, patterns in _GUESSES:
        for pattern in patterns:
            at = 0
            for part in pattern.split("*"):
                at = name.find(part, at)
                if at < 0:
                    break
                at += len(part)
            else:
                return action
    return ""


def annotation_page(items: Sequence[Item], blind: bool = False, seed: int = 0) -> p.Page:
    """Return the page; ``blind`` hides the policies and shuffles the trials."""
    order = list(items)
    if blind:
        random.Random(seed).shuffle(order)
    page = p.Page("Does the robot do what the film shows?")
    data = [{"id": item.id, "motion": item.motion, "policy": item.policy, "trial": item.trial,
             "action": guess_action(item.motion)} for item in order]  # fmt: skip
    classes = [{"name": name, "actions": list(actions)} for name, actions in PAPER_TABLE_2]
    key = hashlib.sha256(json.dumps([each["id"] for each in data]).encode()).hexdigest()[:12]
    page.add(
        "<style>.item{display:none}.item.on{display:block}.judge{display:flex;flex-wrap:wrap;gap:10px;margin:14px 0;"
        "align-items:center}.judge button{padding:9px 18px;font-weight:600}.judge button.yes.on{background:var(--good);"
        "border-color:var(--good)}.judge button.no.on{background:var(--bad);border-color:var(--bad)}"
        "label{white-space:nowrap}select,input[type=text]{font:inherit;padding:4px 8px;border:1px solid var(--line);"
        "border-radius:7px;background:var(--bg);color:var(--ink);max-width:100%}video{width:100%}</style>",
        "<h1>Does the robot do what the film shows?</h1>",
        '<p class="muted">Failure: it stumbles badly, or a hand or foot that matters visibly does not follow (paper '
        "5.4). Keys: S success, F failure, arrows. Verdicts stay in this browser until you save them.</p>",
        '<p><label>Your name <input type="text" id="who" autocomplete="off"></label> <span id="done"></span></p>',
    )
    for number, item in enumerate(order):
        title = f"{item.motion}" if blind else f"{item.motion}, {item.policy}, trial {item.trial}"
        page.add(
            f'<div class="item{" on" if not number else ""}"><h2>{number + 1} of {len(order)}: {p.text(title)}</h2>'
            f'<div class="pair"><div><h3>asked</h3>{item.source}</div><div><h3>robot</h3>{item.robot}</div></div></div>'
        )
    reasons = "".join(
        f'<label><input type="checkbox" value="{p.text(reason)}"> {p.text(reason)}</label>' for reason in REASONS
    )
    options = "".join(
        f'<optgroup label="{p.text(name)}">'
        + "".join(f"<option>{p.text(action)}</option>" for action in actions)
        + "</optgroup>"
        for name, actions in PAPER_TABLE_2
    )
    page.add(
        '<div class="judge"><button type="button" id="back">‹ back</button>'
        '<button type="button" class="yes" id="yes">success</button><button type="button" class="no" id="no">failure'
        '</button><button type="button" id="next">next ›</button></div>'
        f'<div class="judge" id="reasons">{reasons}</div>'
        f'<div class="judge"><label>action <select id="action"><option></option>{options}</select></label>'
        '<label>note <input type="text" id="note"></label></div>'
    )
    page.section(
        "Table 2", '<div id="table" class="scroll"></div>',
        '<div class="judge"><button type="button" id="json">save verdicts</button><button type="button" id="csv">save '
        'as CSV</button><label>go on from a file <input type="file" id="load" accept=".json"></label></div>',
        note="Number of motions, and visual success rate: the mean over motions of the share of trials that succeed.",
    )  # fmt: skip
    settings = {"key": f"genmimic-{key}", "items": data, "classes": classes, "format": VERDICTS_FORMAT}
    page.script(f"const S={p.script_json(settings)};{_SCRIPT}")
    return page


_SCRIPT = """
(()=>{const $=id=>document.getElementById(id),blocks=[...document.querySelectorAll('.item')];
let at=0,V={},who='';try{const kept=JSON.parse(localStorage.getItem(S.key)||'{}');V=kept.v||{};
who=kept.who||''}catch(e){}
$('who').value=who;const now=()=>V[S.items[at].id]||(V[S.items[at].id]={success:null,reasons:[],note:'',
action:S.items[at].action});
function keep(){try{localStorage.setItem(S.key,JSON.stringify({v:V,who:$('who').value}))}catch(e){}show()}
function show(){const v=now();$('yes').classList.toggle('on',v.success===true);$('no').classList.toggle('on',
v.success===false);
document.querySelectorAll('#reasons input').forEach(x=>{x.checked=v.reasons.includes(x.value)});
$('reasons').style.display=v.success===false?'flex':'none';$('action').value=v.action||'';
if(document.activeElement!==$('note'))$('note').value=v.note;
$('done').textContent=S.items.filter(i=>V[i.id]&&V[i.id].success!==null).length+' of '+S.items.length+' judged';
table()}
function go(n){if(n<0||n>=blocks.length)return;blocks[at].querySelectorAll('video').forEach(x=>x.pause());
blocks[at].classList.remove('on');at=n;blocks[at].classList.add('on');
blocks[at].querySelectorAll('video').forEach(x=>{x.currentTime=0;x.play().catch(()=>{})});
dispatchEvent(new Event('resize'));show()}
function judge(s){const v=now();v.success=s;if(s)v.reasons=[];keep()}
function rows(){return S.items.filter(i=>V[i.id]&&V[i.id].success!==null).map(i=>({item:i.id,motion:i.motion,policy:
i.policy,
trial:i.trial,action:V[i.id].action||'',success:V[i.id].success,reasons:V[i.id].reasons,note:V[i.id].note}))}
function vsr(list){const m={};list.forEach(r=>(m[r.motion]=m[r.motion]||[]).push(+r.success));
const k=Object.values(m);
return[k.length,k.length?k.reduce((a,x)=>a+x.reduce((b,c)=>b+c,0)/x.length,0)/k.length:null]}
const esc=s=>String(s).replace(/[&<>"]/g,c=>'&#'+c.charCodeAt(0)+';');
function table(){const R=rows(),out=[];const line=(n,l,k)=>{const[c,x]=vsr(l);if(c)out.push('<tr'+(k?' class=strong':
'')+
'><td>'+(k?'':'&emsp;')+esc(n)+'</td><td class=n>'+c+'</td><td class=n>'+l.length+'</td><td class=n>'+x.toFixed(2)+
'</td></tr>')};
S.classes.forEach(c=>{const inside=R.filter(r=>c.actions.includes(r.action));line(c.name,inside,true);
c.actions.forEach(a=>line(a,inside.filter(r=>r.action===a)))});line('without an action',R.filter(r=>!r.action),true);
line('all',R,true);$('table').innerHTML='<table><tr><th>action type</th><th class=n>#</th><th class=n>trials</th>'+
'<th class=n>VSR</th></tr>'+out.join('')+'</table>'}
function save(name,kind,text){const a=document.createElement('a');a.href=URL.createObjectURL(new Blob([text],{type:
kind}));
a.download=name;a.click();setTimeout(()=>URL.revokeObjectURL(a.href),1000)}
$('json').onclick=()=>save('verdicts.json','application/json',JSON.stringify({format:S.format,annotator:
$('who').value,
verdicts:rows()},null,1));
$('csv').onclick=()=>save('verdicts.csv','text/csv',['item,motion,policy,trial,action,success,reasons,note',
...rows().map(r=>
[r.item,r.motion,r.policy,r.trial,r.action,r.success,r.reasons.join('; '),r.note].map(x=>'"'+String(x).replace(/"/g,
'""')+'"')
.join(','))].join('\\n')+'\\n');
$('load').onchange=async e=>{try{const d=JSON.parse(await e.target.files[0].text());if(d.format!==S.format)throw 0;
$('who').value=d.annotator||'';d.verdicts.forEach(r=>{V[r.item]={success:r.success,reasons:r.reasons||[],note:
r.note||'',
action:r.action||''}});keep()}catch(x){alert('not a file of verdicts')}};
$('yes').onclick=()=>judge(true);$('no').onclick=()=>judge(false);$('back').onclick=()=>go(at-1);
$('next').onclick=()=>go(at+1);
$('action').onchange=()=>{now().action=$('action').value;keep()};$('note').oninput=()=>{now().note=$('note').value;
keep()};
$('who').oninput=keep;document.querySelectorAll('#reasons input').forEach(x=>{x.onchange=()=>{now().reasons=
[...document.querySelectorAll('#reasons input:checked')].map(y=>y.value);keep()}});
addEventListener('keydown',e=>{if(/^(text|select)/.test(e.target.type||''))return;const k=e.key.toLowerCase();
if(k==='s')judge(true);if(k==='f')judge(false);if(k==='arrowright')go(at+1);if(k==='arrowleft')go(at-1)});show()})()
"""


# verdicts --------------------------------------------------------------------------------------
def load_verdicts(path: str | Path) -> list[dict[str, Any]]:
    """Read a saved file of verdicts, each with ``annotator`` added. Raises InputFileError."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_VERDICTS_BYTES:
            raise InputFileError(f"{path}: larger than {MAX_VERDICTS_BYTES} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path}: not a whole JSON file ({error})") from None
    if not isinstance(found, dict) or found.get("format") != VERDICTS_FORMAT:
        raise InputFileError(f"{path}: expected verdicts, format {VERDICTS_FORMAT!r}")
    verdicts = found.get("verdicts")
    kinds = {"item": str, "motion": str, "action": str, "success": bool}
    if not isinstance(verdicts, list):
        raise InputFileError(f"{path}: verdicts is missing, expected a list")
    for number, verdict in enumerate(verdicts):
        for name, kind in kinds.items():
            if not isinstance(verdict, dict) or not isinstance(verdict.get(name), kind):
                raise InputFileError(f"{path}: verdicts[{number}]: {name} is missing or not {kind.__name__}")
    return [{**verdict, "annotator": str(found.get("annotator", ""))} for verdict in verdicts]


def vsr_rows(verdicts: Sequence[Mapping[str, Any]]) -> list[tuple[str, bool, int, int, float]]:
    """Return name, whether it is a category, motions, trials and VSR of each category and action that was judged.

    Several people's verdicts on a trial count as so many trials.
    """
    rows = []
    known = {action for _, actions in PAPER_TABLE_2 for action in actions}
    groups = [*PAPER_TABLE_2, ("other", tuple(sorted({str(v["action"]) for v in verdicts} - known)))]
    for name, actions in groups:
        inside = [verdict for verdict in verdicts if verdict["action"] in actions]
        if not inside:
            continue
        rows.append((name, True, *_vsr(inside)))
        for action in actions:
            own = [verdict for verdict in inside if verdict["action"] == action]
            if own and action:
                rows.append((action, False, *_vsr(own)))
    if verdicts:
        rows.append(("all", True, *_vsr(verdicts)))
    return rows


def _vsr(verdicts: Sequence[Mapping[str, Any]]) -> tuple[int, int, float]:
    trials: dict[str, list[bool]] = {}
    for verdict in verdicts:
        trials.setdefault(str(verdict["motion"]), []).append(bool(verdict["success"]))
    return len(trials), len(verdicts), sum(sum(each) / len(each) for each in trials.values()) / len(trials)


def vsr_table(rows: Sequence[tuple[str, bool, int, int, float]]) -> str:
    """Return the rows as an aligned table, after the paper's Table 2."""
    width = max([len("action type"), *(len(name) + 2 * (not whole) for name, whole, *_ in rows)])
    lines = [f"{'action type':<{width}}     #  trials   VSR"]
    lines.append("-" * len(lines[0]))
    for name, whole, motions, trials, rate in rows:
        lines.append(f"{name if whole else '  ' + name:<{width}}  {motions:>4}  {trials:>6}  {rate:.2f}")
    return "\n".join(lines)


def _film(place: str | Path | None, name: str) -> Path | None:
    if place is None:
        return None
    place = Path(place)
    if place.is_file():
        return place
    if not place.is_dir():
        raise InputFileError(f"{place}: no such folder of videos")
    return next((place / f"{name}{end}" for end in VIDEO_SUFFIXES if (place / f"{name}{end}").is_file()), None)


def _video(path: Path) -> str:
    try:
        return _tag(*web_video(path))
    except GenMimicError as error:
        raise InputFileError(str(error)) from None


def _tag(data: bytes, kind: str) -> str:
    return f'<video controls loop muted playsinline preload="metadata" src="{p.embedded(data, kind)}"></video>'
