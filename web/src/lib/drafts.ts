import { openDB, type IDBPDatabase } from "idb";

/** What was typed and not yet sent, by account and conversation (`user/conversation`); it outlives reloads and crashes. Without IndexedDB nothing is kept. */
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

/** At sign-out: the next person at this browser finds none of what this one wrote. Keys without an account are of earlier versions. */
export async function forgetDrafts(user: string): Promise<void> {
  try {
    const db = await database();
    const keys = (await db.getAllKeys("drafts")).map(String);
    await Promise.all(keys.filter((key) => key.startsWith(`${user}/`) || !key.includes("/")).map((key) => db.delete("drafts", key)));
  } catch {
    // Where nothing can be kept, nothing is left.
  }
}
