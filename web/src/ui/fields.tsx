import { useId, useState, type InputHTMLAttributes, type ReactNode } from "react";

/** A labelled control; `children` gets the ids that tie label, control and hint together. */
export function Field(props: { label: string; hint?: ReactNode; children: (ids: { id: string; "aria-describedby"?: string }) => ReactNode }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{props.label}</label>
      {props.children(props.hint ? { id, "aria-describedby": `${id}-hint` } : { id })}
      {props.hint ? <span id={`${id}-hint`} className="hint">{props.hint}</span> : null}
    </div>
  );
}

export function TextField({ label, hint, ...input }: { label: string; hint?: ReactNode } & InputHTMLAttributes<HTMLInputElement>) {
  return <Field label={label} hint={hint}>{(ids) => <input className="input" dir="auto" {...ids} {...input} />}</Field>;
}

/** A checkbox. It shows the click at once: where `onChange` asks the server, until its promise has settled, and then what `checked` has become. */
export function Check(props: { label: ReactNode; checked: boolean; disabled?: boolean; onChange: (checked: boolean) => void | Promise<void> }) {
  const [asked, setAsked] = useState<{ on: boolean } | null>(null);
  function change(on: boolean) {
    const answer = props.onChange(on);
    if (!answer) return;
    const mine = { on };
    setAsked(mine);
    // In a later task, as queries tell the page their news in one: else the old state would show for a moment.
    const settled = () => setTimeout(() => setAsked((now) => (now === mine ? null : now)));
    void answer.then(settled, settled);
  }
  return (
    <label className="check">
      <input type="checkbox" checked={asked?.on ?? props.checked} disabled={props.disabled} onChange={(event) => change(event.target.checked)} />
      <span>{props.label}</span>
    </label>
  );
}

export function Segments<T extends string>(props: { label: string; value: T; options: readonly (readonly [T, string])[]; onChange: (value: T) => void }) {
  return (
    <div className="segments" role="group" aria-label={props.label}>
      {props.options.map(([value, text]) => (
        <button key={value} type="button" aria-pressed={props.value === value} onClick={() => props.onChange(value)}>{text}</button>
      ))}
    </div>
  );
}

export function Spinner(props: { label: string }) {
  return <div className="center" role="status"><span className="spinner" aria-hidden /><span className="sr-only">{props.label}</span></div>;
}
