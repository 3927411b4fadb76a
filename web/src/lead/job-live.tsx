import { useTranslation } from "react-i18next";
import type { JobFigures } from "./job-figures";
import { Progress } from "./parts";

const WIDTH = 240;
const HEIGHT = 60;

/** The stage that runs, as its log tells it: steps, time left, and a line per figure. */
export function JobLive({ figures, over }: { figures: JobFigures; over: boolean }) {
  const { t } = useTranslation();
  return (
    <div className="stack job-live" data-testid="job-live">
      <Progress done={figures.done} all={figures.of} label={figures.stage} />
      <p className="soft small"><span className="mono">{figures.stage}</span>{!over && figures.left ? ` · ${t("lead.jobs.left", { time: figures.left })}` : ""}</p>
      <div className="job-charts">
        {figures.series.map((line) => (
          <figure key={line.name}>
            <figcaption><span className="soft small">{line.name}{line.unit}</span> <strong>{line.points.at(-1)?.value}</strong></figcaption>
            {line.points.length > 1 ? <Line points={line.points} label={t("lead.jobs.chart", { name: line.name, first: line.points[0]?.value, last: line.points.at(-1)?.value })} /> : null}
          </figure>
        ))}
      </div>
    </div>
  );
}

function Line({ points, label }: { points: JobFigures["series"][number]["points"]; label: string }) {
  const values = points.map((point) => point.value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [points[0]!.step, points.at(-1)!.step];
  const x = (step: number) => 2 + ((WIDTH - 4) * (step - first)) / Math.max(1, last - first);
  const y = (value: number) => (high > low ? HEIGHT - 4 - ((HEIGHT - 8) * (value - low)) / (high - low) : HEIGHT / 2);
  return (
    <svg className="job-line" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label} preserveAspectRatio="none">
      <polyline points={points.map((point) => `${x(point.step).toFixed(1)},${y(point.value).toFixed(1)}`).join(" ")} vectorEffect="non-scaling-stroke" />
    </svg>
  );
}
