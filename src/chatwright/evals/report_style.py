"""The style of report.html: light and dark by the reader's setting, one column on a phone, no script, no outside files.

The language switch is two radio buttons and `:has()`; a browser without `:has()` shows both languages.
"""

CSS = """
:root { color-scheme: light dark; --page:#fbfaf7; --card:#ffffff; --ink:#1d2126; --soft:#5d6670; --line:#dfe2e4;
  --a:#7a8490; --b:#2866c4; --c:#c2410c; --d:#15803d;
  --note:#fff6dc; --note-line:#e3c565; --good:#15803d; --bad:#b42318; }
@media (prefers-color-scheme: dark) { :root { --page:#14171a; --card:#1c2024; --ink:#e6e8ea; --soft:#a0a9b2;
  --line:#343a40;
  --a:#9aa5b1; --b:#7db0ff; --c:#ff9a62; --d:#5fd08a;
  --note:#2d2817; --note-line:#6d5c22; --good:#5fd08a; --bad:#ff8f85; } }
* { box-sizing: border-box; }
body { margin:0; background:var(--page); color:var(--ink); font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
  "Noto Sans","PingFang SC","Microsoft YaHei","Noto Sans CJK SC",sans-serif; }
main, header { max-width:1080px; margin:0 auto; padding:0 20px; }
header { padding-top:28px; }
h1 { font-size:1.7rem; line-height:1.2; margin:.2em 0 .3em; }
h2 { font-size:1.2rem; margin:2.2em 0 .6em; padding-top:.5em; border-top:1px solid var(--line); }
h3 { font-size:1rem; margin:1.4em 0 .4em; }
p { margin:.5em 0; max-width:72ch; }
.soft, figcaption, .legend, th { color:var(--soft); }
.lead { font-size:1.08rem; }
.switch { display:flex; gap:14px; justify-content:flex-end; font-size:.9rem; }
.switch label { cursor:pointer; padding:4px 2px; }
html:has(#lang-en:checked) .zh { display:none; }
html:has(#lang-zh:checked) .en { display:none; }
.note { background:var(--note); border:1px solid var(--note-line); border-radius:8px; padding:10px 14px;
  margin:14px 0; }
.note ul { margin:.2em 0; padding-left:1.2em; }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(190px,1fr)); gap:12px; margin:16px 0; }
.tile { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:12px 14px; }
.tile { display:flex; flex-direction:column; }
.tile b { margin-top:auto; font-size:1.55rem; font-variant-numeric:tabular-nums; line-height:1.25; }
.tile small { color:var(--soft); font-variant-numeric:tabular-nums; }
.scroll { overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums; font-size:.95rem; }
th, td { text-align:right; padding:7px 10px; border-bottom:1px solid var(--line); white-space:nowrap; }
th { font-weight:500; }
th:first-child, td:first-child { text-align:left; white-space:normal; min-width:6.5em; }
td.text { text-align:left; white-space:normal; }
td small { color:var(--soft); }
.charts { display:grid; grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr)); gap:14px; }
figure { margin:0; background:var(--card); border:1px solid var(--line); border-radius:10px; padding:12px;
  min-width:0; }
figcaption { font-size:.9rem; margin-bottom:4px; }
svg { width:100%; height:auto; display:block; }
svg text { fill:var(--soft); font-size:12px; paint-order:stroke; stroke:var(--card); stroke-width:4px; }
svg .grid { stroke:var(--line); stroke-width:1; }
.line { fill:none; stroke-width:2; stroke-linejoin:round; }
.line.thin { stroke-width:1.2; }
.line.faint { stroke-width:1; opacity:.35; }
.dashed { stroke-dasharray:5 4; }
.whisker { stroke-width:3; stroke-linecap:round; }
.mark { stroke-width:1.5; stroke-dasharray:4 3; }
.a .line, .a .whisker, .mark.a { stroke:var(--a); } .a circle { fill:var(--a); }
.b .line, .b .whisker, .mark.b { stroke:var(--b); } .b circle { fill:var(--b); }
.c .line, .c .whisker, .mark.c { stroke:var(--c); } .c circle { fill:var(--c); }
.d .line, .d .whisker, .mark.d { stroke:var(--d); } .d circle { fill:var(--d); }
.legend { list-style:none; display:flex; flex-wrap:wrap; gap:4px 16px; margin:6px 0 0; padding:0; font-size:.85rem; }
.legend i { display:inline-block; width:14px; height:0; border-top:3px solid; margin-right:6px; vertical-align:middle; }
.legend i.a { border-color:var(--a); } .legend i.b { border-color:var(--b); }
.legend i.c { border-color:var(--c); } .legend i.d { border-color:var(--d); }
  .legend i.dash { border-top-style:dashed; }
.question { margin:18px 0; }
.question h3 { margin-bottom:6px; }
.answers { display:grid; grid-template-columns:repeat(auto-fit,minmax(min(100%,260px),1fr)); gap:12px; }
.answer { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:10px 12px;
  border-top:3px solid; }
.answer.a { border-top-color:var(--a); } .answer.b { border-top-color:var(--b); }
  .answer.c { border-top-color:var(--c); }
.answer header { padding:0; display:flex; justify-content:space-between; font-size:.88rem; color:var(--soft); }
.answer p { margin:.4em 0; white-space:pre-wrap; overflow-wrap:anywhere; }
.cut { color:var(--bad); }
.parts { display:flex; flex-wrap:wrap; gap:4px; margin:6px 0 0; padding:0; list-style:none; font-size:.76rem; }
.parts li { border:1px solid var(--line); border-radius:99px; padding:0 8px; color:var(--soft); }
.parts .full { color:var(--good); border-color:currentColor; }
  .parts .none { color:var(--bad); border-color:currentColor; }
.met { color:var(--good); } .missed { color:var(--bad); }
pre { background:var(--card); border:1px solid var(--line); border-radius:8px; padding:10px 12px; overflow-x:auto;
  font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; }
code { font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace; overflow-wrap:anywhere; }
summary { cursor:pointer; color:var(--soft); padding:6px 0; }
footer { max-width:1080px; margin:3em auto 2em; padding:0 20px; color:var(--soft); font-size:.88rem; }
@media (max-width: 480px) { main, header, footer { padding-left:12px; padding-right:12px; } body { font-size:15px; }
  h1 { font-size:1.4rem; } th, td { padding:6px 7px; } }
"""
