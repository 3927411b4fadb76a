import { openDB, type IDBPDatabase } from "idb";

/** What was typed and not yet sent, by conversation; it outlives reloads and crashes. Without IndexedDB nothing is kept. */
let opened: Promise<IDBPDatabase> | null = null;

function database(): Promise<IDBPDatabase> {
  opened ??= openDB("chatwright", 1, { upgrade: (db) => void db.createObjectStore("drafts") });
  return opened;
}

export async function loadDraft(key: string): Promise<string> {
  try {
    return ((await (await database()).get("drafts", key)) as string | undefined) ?? "";
  } catch {
    return "";
  }
}

export async function saveDraft(key: string, text: string): Promise<void> {
  try {
    const db = await database();
    await (text ? db.put("drafts", text, key) : db.delete("drafts", key));
  } catch {
    // A private window may refuse storage; the text is still in the field.
  }
}
