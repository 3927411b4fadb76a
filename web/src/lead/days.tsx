import { useTranslation } from "react-i18next";
import { formatNumber } from "../lib/format";

type Day = { day: string; count: number };

/** Counts of the last so many days (UTC), days without any among them. */
export function perDay(lines: readonly Day[], days: number, now = Date.now()): Day[] {
  const counts = new Map<string, number>();
  for (const line of lines) counts.set(line.day, (counts.get(line.day) ?? 0) + line.count);
  return Array.from({ length: days }, (_, at) => {
    const day = new Date(now - (days - 1 - at) * 86_400_000).toISOString().slice(0, 10);
    return { day, count: counts.get(day) ?? 0 };
  });
}

/** A bar per day; what it shows is also said in words. */
export function Days({ days, label }: { days: Day[]; label: string }) {
  const { t, i18n } = useTranslation();
  const most = Math.max(1, ...days.map((day) => day.count));
  const number = (value: number) => formatNumber(value, i18n.language);
  const total = days.reduce((sum, day) => sum + day.count, 0);
  const date = (day: string) => new Intl.DateTimeFormat(i18n.language, { dateStyle: "medium", timeZone: "UTC" }).format(new Date(day));
  return (
    <figure className="days-figure">
      <svg className="days" viewBox={`0 0 ${days.length * 10} 100`} preserveAspectRatio="none" role="img" aria-label={t("lead.intake.chart", { label, total: number(total), most: number(most) })}>
        {days.map((day, at) => <rect key={day.day} x={at * 10 + 1} width={8} y={100 - (96 * day.count) / most} height={(96 * day.count) / most}><title>{`${date(day.day)}: ${number(day.count)}`}</title></rect>)}
        <line x1={0} x2={days.length * 10} y1={100} y2={100} vectorEffect="non-scaling-stroke" />
      </svg>
      <figcaption className="row soft small"><span className="grow">{date(days[0]?.day ?? "")}</span><span>{t("lead.intake.most", { most: number(most) })}</span><span className="grow end-text">{date(days.at(-1)?.day ?? "")}</span></figcaption>
    </figure>
  );
}
