// The last minute as bars, events per second, and a line, the slowest delivery of each second.

const SECONDS = 60, WIDTH = 600, HEIGHT = 120, BAR = WIDTH / SECONDS;

const shape = (name, attributes) => {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [attribute, value] of Object.entries(attributes)) e.setAttribute(attribute, value);
  return e;
};

export class Chart {
  /** svg to draw in, and show(id, text) for the words beside it. */
  constructor(svg, show) {
    Object.assign(this, { svg, show, seconds: new Map() });
    setInterval(() => this.draw(), 1000);
    this.draw();
  }

  /** Notes an event; latency in ms, NaN if it is not known. */
  add(latency) {
    const second = Math.floor(Date.now() / 1000);
    const s = this.seconds.get(second) ?? { events: 0, latency: NaN };
    s.events++;
    if (!(s.latency >= latency) && !Number.isNaN(latency)) s.latency = latency;
    this.seconds.set(second, s);
  }

  draw() {
    const now = Math.floor(Date.now() / 1000);
    for (const second of this.seconds.keys()) if (second <= now - SECONDS) this.seconds.delete(second);
    const points = [...this.seconds].map(([second, s]) => ({ second, x: (second - now + SECONDS - 1) * BAR, ...s }));
    const timed = points.filter(p => !Number.isNaN(p.latency));
    const most = Math.max(1, ...points.map(p => p.events)), slowest = Math.max(1, ...timed.map(p => p.latency));

    const bars = points.map(p => {
      const height = p.events / most * (HEIGHT - 4);
      return shape('rect', { x: p.x + 1, y: HEIGHT - height, width: BAR - 2, height });
    });
    const runs = []; // of seconds that follow one another: a line across a gap would tell of what was not measured
    for (const p of timed) {
      const at = `${p.x + BAR / 2},${HEIGHT - 4 - p.latency / slowest * (HEIGHT - 10)}`;
      if (runs.at(-1)?.second === p.second - 1) Object.assign(runs.at(-1), { second: p.second, points: `${runs.at(-1).points} ${at}` });
      else runs.push({ second: p.second, points: `${at} ${at}` }); // twice, to be seen if it stays alone
    }
    this.svg.replaceChildren(...bars, ...runs.map(run => shape('polyline', { points: run.points })));

    const total = points.reduce((sum, p) => sum + p.events, 0);
    this.show('chart-most', total ? `up to ${most}` : '');
    this.show('chart-slowest', timed.length ? `${Math.round(slowest)} ms` : '');
    this.show('chart-text', total === 0 ? 'No events in the last minute.' :
      `${total} events in the last minute, at most ${most} in a second` + (timed.length ? `; the slowest delivery took ${Math.round(slowest)} ms.` : '.'));
  }
}
