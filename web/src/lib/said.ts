import type { TFunction } from "i18next";
import i18n from "../i18n";
import words from "../i18n/server-words.json";

/**
 * What the server says in words of its own, in the reader's language. English is the server's language, and so those who
 * read English get it as it was said; others get what it means, by its code, its name or the beginning of the sentence.
 */
export const readsEnglish = () => i18n.language === "en";

/** The name of a word or sentence among the texts: `taken back by the labeller` is `taken_back_by_the_labeller`. */
export const slug = (text: string) => text.toLowerCase().replace(/[^a-z0-9]+/g, "_").replace(/^_+|_+$/g, "");

function keyOf(kind: keyof typeof words, text: string): string | undefined {
  return (words[kind] as [string, string][]).find(([pattern]) => new RegExp(pattern).test(text))?.[1];
}

/** Why an answer of a chat failed. */
export function answerFailure(said: string, t: TFunction): string {
  const key = keyOf("answers", said);
  return key ? t(key) : (readsEnglish() && said) || t("message.failed");
}

/** Why the calculator has no result. */
export function stepFailure(said: string, t: TFunction): string {
  const key = keyOf("steps", said);
  return readsEnglish() || !key ? said : t(key);
}

/** Why a reward model's report card does not let the training go on. */
export function cardRefusal(said: string, t: TFunction): string {
  return readsEnglish() ? said : t(keyOf("cards", said) ?? "lead.models.cardFailed");
}

/** Where and why a row of a file was not taken: `name:line: field: reason`; null for what has another form. */
export function badRow(said: string, t: TFunction): { line: string; field: string; reason: string } | null {
  const [, line = "", field = "", reason = ""] = /^.*?:(\d+): ([^:]+): (.*)$/s.exec(said) ?? [];
  if (!reason) return null;
  const key = keyOf("rows", reason);
  return { line, field: field === "line" ? "" : field, reason: key && !readsEnglish() ? t(key) : reason };
}

/** A setting, a figure or a part of a request, as people call it. */
export const fieldName = (name: string, t: TFunction) => t(`fields.${slug(name)}`, { defaultValue: name.replaceAll("_", " ") });
