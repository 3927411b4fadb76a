/** What another page (the prompt library) hands to the next new chat. */
let waiting: { text?: string; system?: string } | null = null;

export function giveInsert(insert: { text?: string; system?: string }): void {
  waiting = insert;
}

export function takeInsert(): typeof waiting {
  const taken = waiting;
  waiting = null;
  return taken;
}
