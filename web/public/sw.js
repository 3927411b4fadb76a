// Keeps the app's shell (its page, code and styles: no texts of anybody) for when the network or the server is away, so that
// a reload then finds the app, and the app finds what lies on this device. Everything else goes to the server as always.
const PAGE = "/";
const FILES = ["/theme.js", "/icon.svg", "/skeleton.css"];
const NOT_THE_APP = /^\/(api|v1|docs|openapi\.json|health|ready|metrics|tokenize|detokenize|tokenizer_info)(\/|$)/;

const shell = () => caches.open("shell");

async function fresh(path) {
  const answer = await fetch(path, { cache: "no-cache" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer;
}

/** All files of the present build. The page comes last: what it names is there then. Files of older builds go. */
async function refill() {
  const cache = await shell();
  const named = await (await fresh("/shell.json")).json();
  const held = new Set((await cache.keys()).map((request) => new URL(request.url).pathname));
  await cache.addAll(named.filter((path) => !held.has(path)));
  for (const path of [...FILES, PAGE]) await cache.put(path, await fresh(path));
  const wanted = new Set([...named, ...FILES, PAGE]);
  await Promise.all([...held].filter((path) => !wanted.has(path)).map((path) => cache.delete(path)));
}

async function refillWhenChanged(answer) {
  const kept = await (await shell()).match(PAGE);
  if (!kept || (await kept.text()) !== (await answer.text())) await refill();
}

async function page(event) {
  const kept = async () => (await shell()).match(PAGE);
  try {
    const answer = await fetch(event.request);
    if (answer.ok) event.waitUntil(refillWhenChanged(answer.clone()).catch(() => undefined)); // the next visit tries again
    return [502, 503, 504].includes(answer.status) ? ((await kept()) ?? answer) : answer;
  } catch (error) {
    return (await kept()) ?? Promise.reject(error);
  }
}

/** Files under /assets/ never change; the others are asked for first. */
async function file(request, path) {
  const kept = () => shell().then((cache) => cache.match(path));
  if (FILES.includes(path)) return fetch(request).catch(async (error) => (await kept()) ?? Promise.reject(error));
  return (await kept()) ?? fetch(request);
}

addEventListener("install", (event) => event.waitUntil(refill().then(() => skipWaiting())));
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== location.origin) return;
  if (request.mode === "navigate") { if (!NOT_THE_APP.test(pathname)) event.respondWith(page(event)); }
  else if (pathname.startsWith("/assets/") || FILES.includes(pathname)) event.respondWith(file(request, pathname));
});
