
const RATIOS = [1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2, 5, 10, 100]; // from line to line, logarithmic
const DAY = 86400;
// Of forms that let through what is behind them, in two hexadecimal digits.
const OPACITY = {faint: "59", area: "47", band: "47", bars: "99"};
const WIDTH = {faint: 1, bars: 0, up: 1, down: 1};
const FILLED = ["area", "bars", "up", "down"]; // forms
const MARKS = ["up", "down"]; // forms of single events, which have no value at other places
const TRIANGLE = 5; // half the width of a triangle, in CSS pixels
const NOTE_REACH = 24; // from the pointer to a value with a note, in CSS pixels
const FROM_ZERO = ["area", "bars", "dots"]; // forms
const scheme = matchMedia("(prefers-color-scheme: dark)");
const ink = (name, opacity = "") =>
  getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim() + opacity;

// A value as people read it; step: from tick to tick of the axis that it stands at, if at one.
function write(unit, value, step) {
  if (value == null) return "–";
  const scale = unit === "percent" ? 100 : 1;
  const size = Math.abs(value) * scale;
  let [fewest, most] = unit === "plain" ? [0, 3] : unit === "usd" && size < 1 ? [0, 4] : [2, 2];
  // Below a tenth of a cent a price has four significant digits.
  if (unit === "usd" && size > 0 && size < 1e-3) most = 3 - Math.floor(Math.log10(size));
  if (step) {
    const exponent = Math.floor(Math.log10(step * scale) + 1e-9);
    const half = Math.abs(step * scale / 10 ** exponent - 2.5) < 1e-6; // 2.5 has one digit more
    fewest = most = Math.max(0, half - exponent);
  }
  const digits = {minimumFractionDigits: fewest, maximumFractionDigits: most};
  const text = (unit === "usd" ? "$" : "") + size.toLocaleString("en-US", digits);
  return (value < 0 ? "-" : "") + text + ({percent: "%", multiple: "×"}[unit] ?? "");
}

// How places below a plot are written, on its axis and in its legend.
function placesOf({labels, zone}) {
  if (labels.length) {
    const legend = x => labels[Math.round(x)] ?? "";
    return {legend, axis: xs => xs.map(x => (Number.isInteger(x) ? legend(x) : ""))};
  }
  if (!zone) {
    const axis = (xs, step) => xs.map(x => write("plain", x, step));
    return {legend: x => write("plain", x), axis};
  }
  const clock = (parts, language = "en-GB") => {
    const form = new Intl.DateTimeFormat(language, {timeZone: zone, ...parts});
    return seconds => form.formatToParts(seconds * 1000);
  };
  const text = parts => seconds => clock(parts)(seconds).map(part => part.value).join("");
  const hour = text({hour: "2-digit", minute: "2-digit"});
  const day = text({day: "numeric", month: "short"});
  const month = text({month: "short"}), year = text({year: "numeric"});
  const zoneAt = seconds => clock({timeZoneName: "short"}, "en-US")(seconds).at(-1).value;
  const axis = (xs, step) => {
    const [fine, coarse] = step < DAY ? [hour, day] : [step < 28 * DAY ? day : month, year];
    const fresh = i => !i || coarse(xs[i]) !== coarse(xs[i - 1]);
    return xs.map((x, i) => (fresh(i) ? `${fine(x)}\n${coarse(x)}` : fine(x)));
  };
  return {legend: x => `${day(x)} ${year(x)} ${hour(x)} ${zoneAt(x)}`, axis};
}

// Values the same ratio apart, one of which is where the chart begins.
function powers(from, low, high) {
  const parts = ratio => Math.log(high / low) / Math.log(ratio);
  const ratio = RATIOS.find(each => parts(each) <= 6) ?? RATIOS.at(-1);
  const first = Math.ceil(Math.log(low / from) / Math.log(ratio));
  return Array.from({length: parts(ratio) + 1}, (_, k) => from * ratio ** (first + k));
}

// The row whose value of a series the legend shows at a row: between the ends of a curve, the
// nearest row with a value. Beyond its ends, and for marks, only a row of the same place counts;
// without one it is the row itself, which has no value.
function shownRow({data, marks, isSamePlace}, number, row) {
  const x = data[0], values = data[number];
  let low = row, high = row;
  while (low >= 0 && values[low] === undefined) low--;
  while (high < x.length && values[high] === undefined) high++;
  const isBetween = low >= 0 && high < x.length;
  const isHighNearer = isBetween ? x[high] - x[row] < x[row] - x[low] : low < 0;
  const found = isHighNearer ? high : low;
  return (isBetween && !marks.has(number)) || isSamePlace(x[found], x[row]) ? found : row;
}

// Upright lines from a series to its base, which is the series after it.
function whiskers(plot, number, from, to) {
  const stroke = new Path2D();
  const [x, high, low] = [plot.data[0], plot.data[number], plot.data[number + 1]];
  for (let i = from; i <= to; i++) {
    if (high[i] == null) continue;
    stroke.moveTo(plot.valToPos(x[i], "x", true), plot.valToPos(low[i], "y", true));
    stroke.lineTo(plot.valToPos(x[i], "x", true), plot.valToPos(high[i], "y", true));
  }
  return {stroke, flags: 0};
}

// Triangles at the values of a series, which point up (direction 1) or down (-1).
function triangles(direction) {
  return (plot, number, from, to) => {
    const fill = new Path2D(), half = TRIANGLE * devicePixelRatio;
    const [x, values] = [plot.data[0], plot.data[number]];
    for (let i = from; i <= to; i++) {
      if (values[i] == null) continue;
      const left = plot.valToPos(x[i], "x", true), tip = plot.valToPos(values[i], "y", true);
      fill.moveTo(left, tip);
      fill.lineTo(left - half, tip + direction * half * 1.8);
      fill.lineTo(left + half, tip + direction * half * 1.8);
      fill.closePath();
    }
    return {fill, stroke: fill, flags: 0};
  };
}

const steps = uPlot.paths.stepped({align: 1});
const PATHS = {
  steps, area: steps, bars: uPlot.paths.bars({size: [0.8]}), dots: () => null, whiskers,
  up: triangles(1), down: triangles(-1),
};

// What uPlot needs of a series, and of its base where it has one; text: of its value at a row.
function looks({name, colour, form, base}, text) {
  const own = () => ink(colour, OPACITY[form]);
  const look = {
    label: name, class: name ? "named" : "nameless", value: text, paths: PATHS[form],
    stroke: form === "band" ? "transparent" : own, width: WIDTH[form] ?? 2,
    fill: FILLED.includes(form) ? own : null, fillTo: 0,
    dash: colour === "limit" ? [5, 4] : null,
    points: {show: form === "dots" || form === "dotted", size: 6, fill: own},
  };
  const unseen = {...look, class: "nameless", stroke: "transparent"};
  return base ? [look, form === "band" ? unseen : {...unseen, paths: PATHS.dots}] : [look];
}

// A row for each point of every series, so that none needs a value where another one has one. Rows
// of one place lie a billionth of the whole apart: among equal ones uPlot would leave some out.
function rowsOf(series) {
  const rows = series.flatMap((s, k) => s.x.map((x, i) => ({x, k, i})));
  rows.sort((a, b) => a.x - b.x);
  const apart = (rows.at(-1).x - rows[0].x || 1) / 1e9;
  let before = 0;
  rows.forEach((row, n) => {
    before = n && row.x === rows[n - 1].x ? before + 1 : 0;
    row.at = row.x + before * apart;
  });
  return rows;
}

// The values of a series by row: none at rows of others, null where it has a gap.
function column(rows, k, values, logarithmic) {
  const shown = y => (logarithmic && y <= 0 ? null : y);
  const found = rows.map(row => (row.k === k ? shown(values[row.i]) : undefined));
  // A gap reaches from the value before it to the one after it.
  for (const order of [found.keys(), [...found.keys()].reverse()]) {
    let gap = false;
    for (const n of order) {
      if (found[n] !== undefined) gap = found[n] === null;
      else if (gap) found[n] = null;
    }
  }
  return found;
}

// What uPlot draws of a chart, each part beside the colour that it has in the legend.
function tableOf({series, unit, labels}, logarithmic) {
  const rows = rowsOf(series);
  const end = rows.at(-1).x, nearby = (end - rows[0].x || 1) / 1e6;
  const isSamePlace = labels.length ? (a, b) => Math.round(a) === Math.round(b)
    : (a, b) => Math.abs(a - b) < nearby;
  const table = {
    data: [rows.map(row => row.at)], looks: [{}], bands: [], colours: [""], marks: new Set(),
    isSamePlace,
  };
  table.notes = rows.flatMap(({k, i, at}) => (
    series[k].notes ? [{at, y: series[k].y[i], text: series[k].notes[i]}] : []));
  series.forEach((s, k) => {
    const text = (plot, value, number, row) => {
      if (s.form === "vertical") return write("plain", s.x[0]);
      const atRest = isSamePlace(s.x.at(-1), end) ? [s.base?.at(-1), s.y.at(-1)] : [];
      const [low, high] = row == null ? atRest : [plot.data[number + 1]?.[row], value];
      return (s.base ? `${write(unit, low)} … ` : "") + write(unit, high);
    };
    if (s.form === "band") {
      const own = table.data.length;
      table.bands.push({series: [own, own + 1], fill: () => ink(s.colour, OPACITY.band)});
    }
    if (MARKS.includes(s.form)) table.marks.add(table.data.length);
    for (const values of s.base ? [s.y, s.base] : [s.y]) {
      table.data.push(column(rows, k, values, logarithmic));
      table.colours.push(`var(--${s.colour})`);
    }
    table.looks.push(...looks(s, text));
  });
  return table;
}

function scalesOf({series, labels, zone}, logarithmic) {
  const across = (plot, low, high) => {
    if (labels.length) return [Math.max(low, 0) - 0.5, Math.min(high, labels.length - 1) + 0.5];
    const beside = high - low > 1e-6 ? (high - low) * 0.02 : 0.5;
    return [low - beside, high + beside];
  };
  const end = {pad: 0.1, soft: 0, mode: 3};
  const zero = series.some(s => FROM_ZERO.includes(s.form)) ? [0] : [];
  const up = (plot, low, high) =>
    uPlot.rangeNum(Math.min(low, ...zero), Math.max(high, ...zero), {min: end, max: end});
  const around = (plot, low, high) => {
    const beyond = Math.max(high / low, 1.01) ** 0.05;
    return [low / beyond, high * beyond];
  };
  return {
    x: zone ? {time: true} : {time: false, range: across},
    y: logarithmic ? {distr: 100, fwd: Math.log, bwd: Math.exp, range: around} : {range: up},
  };
}

function axesOf({series, unit, labels, zone}, places, logarithmic) {
  const look = {
    stroke: () => ink("quiet"), grid: {stroke: () => ink("rule"), width: 1},
    ticks: {show: false}, font: "12px system-ui, sans-serif", gap: 6,
  };
  const across = {
    ...look, size: zone ? 42 : 26, values: (plot, xs, axis, space, step) => places.axis(xs, step),
    space: Math.max(55, ...labels.map(label => 10 + 7 * label.length)),
  };
  const up = {
    ...look, size: (plot, texts) => 14 + 7 * Math.max(2, ...(texts ?? []).map(t => t.length)),
    values: (plot, ys, axis, space, step) =>
      ys.map(y => write(unit, y, logarithmic ? y / 100 : step)),
  };
  if (labels.length) across.incrs = [1, 2, 3, 4, 6, 8, 12, 24, 48];
  if (logarithmic) {
    up.splits = (plot, axis, low, high) => powers(series.at(-1).y[0], low, high);
    up.filter = (plot, ys) => ys;
  }
  return [across, up];
}

// The note nearest to the pointer, within reach.
function noteAt(plot, notes) {
  const {left, top} = plot.cursor;
  const distance = ({at, y}) =>
    Math.hypot(plot.valToPos(at, "x") - left, plot.valToPos(y, "y") - top);
  const [first] = notes.map(note => [distance(note), note]).sort(([a], [b]) => a - b);
  return first?.[0] <= NOTE_REACH ? first[1] : null;
}

// Show the note at the pointer below a plot. Arrow keys move the pointer from note to note.
function noteReader(figure) {
  const line = document.createElement("p");
  line.className = "note";
  line.setAttribute("aria-live", "polite");
  figure.tabIndex = 0;
  figure.setAttribute("role", "group");
  figure.setAttribute("aria-label", figure.querySelector("figcaption").textContent);
  const hint = "Hover over a trade, or focus the chart and press ← or →, to read its reason.";
  let plot, notes, places, number = -1;
  const show = note => {
    line.textContent = note ? `${places.legend(note.at)}: ${note.text}` : hint;
    if (note) number = notes.indexOf(note);
  };
  figure.addEventListener("keydown", event => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!step || event.target !== figure) return;
    event.preventDefault();
    const {min, max} = plot.scales.x;
    const next = notes.findIndex(({at}) => at >= min);
    const visible = notes.filter(({at}) => at >= min && at <= max).length;
    number = Math.min(Math.max(number < 0 ? next : number + step, next), next + visible - 1);
    const note = notes[number];
    if (!note) return;
    plot.setCursor({left: plot.valToPos(note.at, "x"), top: plot.valToPos(note.y, "y")}, false);
    show(note);
  });
  return {
    attach: (...state) => {
      [plot, notes, places] = state;
      figure.append(line);
      show(null);
    },
    move: () => plot && show(plot.cursor.left < 0 ? null : noteAt(plot, notes)),
  };
}

function plotted(chart, figure, logarithmic, reader) {
  const table = tableOf(chart, logarithmic), {data, looks, bands, colours, notes} = table;
  const places = placesOf(chart);
  looks[0] = {label: "at", value: (plot, x) => places.legend(x ?? data[0].at(-1))};
  const colour = (plot, number) => colours[number];
  const size = (plot, number) => (looks[number].class === "named" ? 7 : 0);
  // The legend begins with what is drawn on top.
  const init = plot => {
    const [at, ...rows] = plot.root.querySelectorAll(".u-series");
    at.after(...rows.reverse());
  };
  const plot = new uPlot({
    width: figure.clientWidth, series: looks, bands,
    height: (figure.clientWidth < 500 ? 180 : 220) + (reader ? 100 : 0),
    tzDate: seconds => uPlot.tzDate(new Date(seconds * 1000), chart.zone || "UTC"),
    scales: scalesOf(chart, logarithmic), axes: axesOf(chart, places, logarithmic),
    legend: {markers: {stroke: colour, fill: colour}}, hooks: {init: [init], setCursor: reader ? [reader.move] : []},
    cursor: {
      dataIdx: (plot, number, row) => shownRow(table, number, row),
      points: {stroke: colour, fill: colour, size},
    },
  }, data, figure);
  reader?.attach(plot, notes, places);
  return plot;
}

for (const figure of document.querySelectorAll("figure[data-chart]")) {
  const chart = JSON.parse(figure.dataset.chart);
  chart.series.forEach((series, k) => {
    let at = 0;
    if (series.x && chart.zone) series.x = series.x.map(step => (at += step));
    series.x ??= chart.series[k - 1].x;
  });
  const reader = chart.series.some(series => series.notes) ? noteReader(figure) : null;
  let plot = null, logarithmic = false;
  const draw = () => {
    plot?.destroy();
    plot = plotted(chart, figure, logarithmic, reader);
    figure.classList.add("plotted");
  };
  // What is closed has no width yet.
  new ResizeObserver(() => {
    if (figure.clientWidth && figure.clientWidth !== plot?.width) draw();
  }).observe(figure);
  scheme.addEventListener("change", () => plot?.redraw());
  if (!chart.logarithmic) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "logarithmic";
  button.setAttribute("aria-pressed", false);
  button.addEventListener("click", () => {
    logarithmic = !logarithmic;
    button.setAttribute("aria-pressed", logarithmic);
    draw();
  });
  figure.prepend(button);
}

// A select element that shows one of several charts.
for (const choice of document.querySelectorAll(".choice")) {
  const figures = [...choice.querySelectorAll("figure")];
  const select = document.createElement("select"), label = document.createElement("label");
  figures.forEach(figure => select.add(new Option(figure.dataset.name)));
  const show = () => figures.forEach((figure, k) => { figure.hidden = k !== select.selectedIndex; });
  select.addEventListener("change", show);
  label.append(`${choice.dataset.label} `, select);
  choice.prepend(label);
  show();
}
