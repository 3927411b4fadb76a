import { useTranslation } from "react-i18next";
import { formatNumber } from "../lib/format";
import type { Dashboard } from "./api";
import { Few, isEnough } from "../ui/few";
import { Figure, Section, Spread } from "./parts";
import { duration } from "./text";

/** What a demonstration takes against what a ranking takes: the reason for rankings, measured here instead of believed. */
export function Cost({ cost }: { cost: Dashboard["cost"] }) {
  const { t, i18n } = useTranslation();
  const rows = [["demonstration", cost.seconds_per_demonstration, cost.cost_per_demonstration, cost.num_demonstrations], ["ranking", cost.seconds_per_ranking, cost.cost_per_ranking, cost.num_rankings]] as const;
  const longest = Math.max(1, ...rows.map(([, seconds]) => seconds?.high ?? 0));
  const fewest = Math.min(cost.num_demonstrations, cost.num_rankings);
  const known = rows.some(([, seconds]) => seconds);
  return (
    <Section title={t("lead.cost.title")} text={known ? t("lead.cost.text") : t("lead.cost.none")}>
      {rows.map(([name, seconds, price, count]) => seconds ? (
        <div key={name}>
          <div className="row wrap"><strong className="grow">{t(`lead.cost.${name}`)}</strong><span>{duration(seconds.value, t)}{price === null ? "" : ` · ${price.toFixed(2)}`}</span></div>
          <Spread count={count} unit="labels" low={seconds.low} point={seconds.value} high={seconds.high} to={longest} show={(value) => duration(value, t)} />
          {isEnough(count, seconds.low, seconds.high) ? <span className="soft small"> · {t("lead.cost.measured", { count, total: formatNumber(count, i18n.language) })}</span> : null}
        </div>
      ) : null)}
      {cost.ratio ? <Figure value={<>{cost.ratio.value.toFixed(1)} × {isEnough(fewest, cost.ratio.low, cost.ratio.high) ? <small>{cost.ratio.low.toFixed(1)} – {cost.ratio.high.toFixed(1)}</small> : null}</>} text={t("lead.cost.ratio")} note={isEnough(fewest, cost.ratio.low, cost.ratio.high) ? null : <Few count={fewest} unit="labels" />} /> : null}
      {cost.wage_per_hour === null && known ? <p className="soft small">{t("lead.cost.noWage")}</p> : null}
    </Section>
  );
}
