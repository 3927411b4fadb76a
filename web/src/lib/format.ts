/** Dates and numbers as the reader's language writes them. */
export function formatDate(seconds: number, language: string): string {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" }).format(seconds * 1000);
}

export function formatNumber(value: number, language: string): string {
  return new Intl.NumberFormat(language).format(value);
}

/** A probability or a share in per cent. Nothing at all is "0 %": what is rare and what never happened are told apart. */
export function formatPercent(probability: number): string {
  const percent = probability * 100;
  return percent === 0 ? "0 %" : percent >= 99.95 ? "100 %" : percent >= 10 ? `${percent.toFixed(0)} %` : percent >= 0.1 ? `${percent.toFixed(1)} %` : "< 0.1 %";
}

export type Age = "today" | "yesterday" | "week" | "older";

/** Which part of the list of conversations a time belongs to; days begin at the reader's midnight. */
export function ageOf(seconds: number, now = Date.now()): Age {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const at = seconds * 1000;
  if (at >= midnight) return "today";
  if (at >= midnight - 86_400_000) return "yesterday";
  return at >= midnight - 6 * 86_400_000 ? "week" : "older";
}

/** A text offered to the reader as a file. */
export function download(name: string, blob: Blob): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

/** Over plain HTTP from another machine browsers offer no clipboard; there the selection's own copy command does it. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

function copySelected(text: string): boolean {
  const before = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  field.readOnly = true;
  field.className = "sr-only";
  (document.querySelector("dialog[open]") ?? document.body).append(field); // outside of an open dialog nothing can be selected
  field.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    field.remove();
    if (before instanceof HTMLElement) before.focus({ preventScroll: true });
  }
}
