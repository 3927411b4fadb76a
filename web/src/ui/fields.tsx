import { useId, type InputHTMLAttributes, type ReactNode } from "react";

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
  return <Field label={label} hint={hint}>{(ids) => <input className="input" {...ids} {...input} />}</Field>;
}

export function Check(props: { label: ReactNode; checked: boolean; disabled?: boolean; onChange: (checked: boolean) => void }) {
  return (
    <label className="check">
      <input type="checkbox" checked={props.checked} disabled={props.disabled} onChange={(event) => props.onChange(event.target.checked)} />
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
