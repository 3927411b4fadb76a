import { openDB, type IDBPDatabase } from "idb";

/**
 * What a labeller has done and the server has not confirmed yet, in IndexedDB: it outlives the tab, the browser and the
 * network. Where the browser refuses storage (some private windows) it is kept in memory, and `lasting` says so.
 */
export type Table = "work" | "outbox" | "open";
export interface Store {
  get<T>(table: Table, key: string): Promise<T | undefined>;
  put<T>(table: Table, key: string, value: T): Promise<void>;
  remove(table: Table, key: string): Promise<void>;
  all<T>(table: Table): Promise<T[]>;
  lasting(): Promise<boolean>;
}

/** Keys begin with the labeller: two people who share a browser never send each other's work. */
export const keyOf = (labeller: string, id: string) => `${labeller}/${id}`;

export class MemoryStore implements Store {
  private tables = { work: new Map<string, unknown>(), outbox: new Map<string, unknown>(), open: new Map<string, unknown>() };
  async get<T>(table: Table, key: string) { return structuredClone(this.tables[table].get(key)) as T | undefined; }
  async put<T>(table: Table, key: string, value: T) { this.tables[table].set(key, structuredClone(value)); }
  async remove(table: Table, key: string) { this.tables[table].delete(key); }
  async all<T>(table: Table) { return structuredClone([...this.tables[table].values()]) as T[]; }
  async lasting() { return false; }
}

export class BrowserStore implements Store {
  private opened: Promise<IDBPDatabase | null> | null = null;
  private memory = new MemoryStore();

  constructor(private name = "chatwright-label") {}

  private database(): Promise<IDBPDatabase | null> {
    this.opened ??= this.open().catch(() => null);
    return this.opened;
  }

  private async open(): Promise<IDBPDatabase> {
    return openDB(this.name, 2, {
      upgrade: (db) => { for (const table of ["work", "outbox", "open"]) if (!db.objectStoreNames.contains(table)) db.createObjectStore(table); },
      blocking: () => { void this.opened?.then((db) => db?.close()); this.opened = null; }, // a newer page waits for this one
      terminated: () => { this.opened = null; },
    });
  }

  /** In the database; in memory when it refuses (full, switched off), so that the page goes on and can still send. */
  private async use<R>(inDatabase: (db: IDBPDatabase) => Promise<R>, inMemory: () => Promise<R>): Promise<R> {
    const db = await this.database();
    if (!db) return inMemory();
    try {
      return await inDatabase(db);
    } catch {
      return inMemory();
    }
  }

  async get<T>(table: Table, key: string): Promise<T | undefined> {
    const kept = await this.memory.get<T>(table, key);
    return kept ?? this.use((db) => db.get(table, key) as Promise<T | undefined>, async () => undefined);
  }

  async put<T>(table: Table, key: string, value: T): Promise<void> {
    await this.use(async (db) => { await db.put(table, value, key); await this.memory.remove(table, key); }, () => this.memory.put(table, key, value));
  }

  async remove(table: Table, key: string): Promise<void> {
    await this.memory.remove(table, key);
    await this.use((db) => db.delete(table, key), async () => undefined);
  }

  async all<T>(table: Table): Promise<T[]> {
    return [...(await this.use((db) => db.getAll(table) as Promise<T[]>, async () => [])), ...(await this.memory.all<T>(table))];
  }

  async lasting(): Promise<boolean> {
    return (await this.database()) !== null;
  }
}

export const browserStore = new BrowserStore();

/** The task that somebody has before them, so that a reload without a network finds it again. */
type Open<Task> = { labeller: string; task: Task; search: string };
const openKey = (labeller: string) => keyOf(labeller, "open");
export const keepOpen = <Task>(store: Store, open: Open<Task>) => store.put("open", openKey(open.labeller), open);
export const closeOpen = (store: Store, labeller: string) => store.remove("open", openKey(labeller));
/** `search`: what was asked for (project, kind); another wish is not answered with this task. */
export async function stillOpen<Task>(store: Store, labeller: string, search: string): Promise<Task | null> {
  const kept = await store.get<Open<Task>>("open", openKey(labeller));
  return kept?.search === search ? kept.task : null;
}

const KEPT_MS = 30 * 86_400_000;

/** Drafts of tasks that nobody has touched for a month. What waits to be sent is never forgotten. */
export async function forgetOld(store: Store, now = Date.now()): Promise<void> {
  for (const { labeller, task, at } of await store.all<{ labeller: string; task: string; at: number }>("work")) {
    if (now - at > KEPT_MS) await store.remove("work", keyOf(labeller, task));
  }
}
