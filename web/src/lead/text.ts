import type { TFunction } from "i18next";
import { formatPercent } from "../lib/format";

/** Seconds as people say them. */
export function duration(seconds: number, t: TFunction): string {
  if (seconds < 90) return t("lead.time.seconds", { value: seconds < 10 ? seconds.toFixed(1) : Math.round(seconds) });
  if (seconds < 90 * 60) return t("lead.time.minutes", { value: Math.round(seconds / 60) });
  return t("lead.time.hours", { value: (seconds / 3600).toFixed(1) });
}

/** Bytes as people say them. */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB"];
  const at = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(count, 1)) / 3));
  const value = count / 1000 ** at;
  return `${value < 10 && at ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

/** Chinese is named by its characters: texts are the same in every country that writes them. */
const WRITTEN: Record<string, string> = { "zh-CN": "zh-Hans", "zh-SG": "zh-Hans", "zh-TW": "zh-Hant", "zh-HK": "zh-Hant" };

/** A language's name in the reader's language. */
export function languageName(code: string, reader: string): string {
  try {
    return new Intl.DisplayNames(reader, { type: "language" }).of(WRITTEN[code] ?? code) ?? code;
  } catch {
    return code; // not a code that the browser accepts
  }
}

/** A share, where there is one. */
export function shareText(share: number | null | undefined): string {
  return share === null || share === undefined ? "–" : formatPercent(share);
}
