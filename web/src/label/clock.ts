/** Active seconds by phase: time counts while the page is looked at, and for at most a minute after the last sign of life. */
export const PHASES = ["read", "rate", "rank", "edit"] as const;
export type Phase = (typeof PHASES)[number];
export type Seconds = Partial<Record<Phase, number>>;
export const IDLE_MS = 60_000;

/** `phase` null: nobody is looking. `since`: the last sign of life, in milliseconds. */
export type Clock = { readonly seconds: Seconds; readonly phase: Phase | null; readonly since: number };

export const startClock = (seconds: Seconds, phase: Phase | null, now: number): Clock => ({ seconds, phase, since: now });

/** A sign of life, or a change of phase: what lies between this one and the last is added to the phase that was on. */
export function tick(clock: Clock, now: number, phase: Phase | null): Clock {
  const passed = Math.max(0, Math.min(now - clock.since, IDLE_MS)) / 1000;
  const seconds = clock.phase && passed > 0 ? { ...clock.seconds, [clock.phase]: (clock.seconds[clock.phase] ?? 0) + passed } : clock.seconds;
  return { seconds, phase, since: now };
}

/** For the label: to a tenth of a second, phases that did not happen left out. */
export function rounded(seconds: Seconds): Seconds {
  return Object.fromEntries(Object.entries(seconds).flatMap(([phase, value]) => (value >= 0.05 ? [[phase, Math.round(value * 10) / 10]] : [])));
}
