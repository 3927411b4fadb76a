/**
 * Enter while an input method composes confirms the word and must not send. Browsers disagree on how they say so: most set
 * `isComposing`, some only `keyCode` 229, and Safari ends the composition just before the key press that ended it.
 */
const AFTER_COMPOSITION_MS = 30;
let compositionEndedAt = -Infinity;

if (typeof document !== "undefined") {
  document.addEventListener("compositionend", (event) => (compositionEndedAt = event.timeStamp), true);
}

type KeyLike = Pick<KeyboardEvent, "key" | "isComposing" | "keyCode" | "timeStamp" | "shiftKey" | "altKey" | "ctrlKey" | "metaKey">;

/** Whether a key press belongs to the input method and not to the page. */
export function isComposing(event: KeyLike): boolean {
  const sinceEnd = event.timeStamp - compositionEndedAt;
  return event.isComposing || event.keyCode === 229 || (event.key === "Enter" && sinceEnd >= 0 && sinceEnd <= AFTER_COMPOSITION_MS);
}

/** Whether a key press is a plain Enter that means "send". */
export function isSendKey(event: KeyLike): boolean {
  return event.key === "Enter" && !event.shiftKey && !event.altKey && !isComposing(event);
}

/** Whether single-letter shortcuts must stay quiet: something is being typed. */
export function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || target.matches("input:not([type=checkbox],[type=radio],[type=range]), textarea, select"));
}
