/** `{{name}}` and `{{name|default}}`, as the server reads them (records/prompt_template.py); here for the preview only. */
const VARIABLE = /\{\{([^{}|\n]+)(?:\|([^{}\n]*))?\}\}/g;

export type Part = { text: string; variable: string | null };

/** A template as text and variables, in order, for a preview with what has been filled in so far. */
export function fill(template: string, values: Record<string, string>): Part[] {
  const parts: Part[] = [];
  let end = 0;
  for (const match of template.matchAll(VARIABLE)) {
    if (match.index > end) parts.push({ text: template.slice(end, match.index), variable: null });
    const name = (match[1] ?? "").trim();
    parts.push({ text: values[name] || match[2]?.trim() || `{{${name}}}`, variable: name });
    end = match.index + match[0].length;
  }
  if (end < template.length) parts.push({ text: template.slice(end), variable: null });
  return parts;
}
