/** What the log of a job tells of the stage that runs: how far it is, how long it will take, and its figures by step. */
export type JobFigures = {
  stage: string;
  done: number;
  of: number;
  unit: string;
  /** As the log writes it, such as "30:08"; empty when the stage is over or cannot tell. */
  left: string;
  series: { name: string; unit: string; points: { step: number; value: number }[] }[];
};

const LINE = /^([\w ]+?(?: \([^)]*\))?): (\d+)\/(\d+) (\w+)(, .*)$/;
const VALUE = /(?:^|, )([A-Za-z][\w -]*?) ([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(\/\w+|%)?(?=,|$)/g;

/** The last stage with figures in a log (engine/console.py writes its lines); null where there is none. */
export function readFigures(log: string): JobFigures | null {
  let found: JobFigures | null = null as JobFigures | null;
  for (const line of log.split("\n")) {
    const [, stage = "", done = "", of = "", unit = "", rest = ""] = LINE.exec(line.trim()) ?? [];
    if (!stage) continue;
    const now: JobFigures = found && found.stage === stage ? found : { stage, done: 0, of: 0, unit, left: "", series: [] };
    found = now;
    Object.assign(now, { done: Number(done), of: Number(of), left: /, ([\d:]+) left/.exec(rest)?.[1] ?? "" });
    for (const [, name = "", value = "", per = ""] of rest.matchAll(VALUE)) {
      const known = now.series.find((each) => each.name === name);
      const figure = known ?? { name, unit: per, points: [] };
      if (!known) now.series.push(figure);
      if (figure.points.at(-1)?.step === Number(done)) figure.points.pop(); // a line that is written anew
      figure.points.push({ step: Number(done), value: Number(value) });
    }
  }
  return found;
}
