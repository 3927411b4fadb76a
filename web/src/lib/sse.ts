import { createParser } from "eventsource-parser";

export type ServerEvent = { event: string; data: unknown; id: string };

/** Events of a streamed response, until it ends. Comments (keep-alives) are dropped by the parser. */
export async function* readEvents(body: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent> {
  const ready: ServerEvent[] = [];
  const parser = createParser({
    onEvent: (event) => ready.push({ event: event.event ?? "message", data: parse(event.data), id: event.id ?? "" }),
  });
  const reader = body.pipeThrough(new TextDecoderStream() as unknown as ReadableWritablePair<string, Uint8Array>).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (value) parser.feed(value);
      while (ready.length) yield ready.shift()!;
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function parse(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return data;
  }
}
