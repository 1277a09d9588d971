// What the pages ask of their server. A key is kept here and nowhere else: it is gone when the tab is.

let key = "";

export function useKey(given) {
  key = given.trim();
}

/** An answer that is none. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

function headers(more = {}) {
  return key ? { ...more, authorization: `Bearer ${key}` } : more;
}

async function answered(response) {
  if (response.ok) return response;
  const text = await response.text();
  let said = text;
  try {
    const body = JSON.parse(text);
    said = body.message ?? body.error ?? text;
  } catch {
    // Some refusals have no body.
  }
  if (response.status === 401) said = "The server asks for an API key; enter one above.";
  const after = response.headers.get("retry-after");
  if (after) said = `${said}; try again in ${after} s`;
  throw new Refused(response.status, said || `The server answered with status ${response.status}.`);
}

async function send(path, options) {
  try {
    return await fetch(path, { ...options, cache: "no-store", credentials: "same-origin" });
  } catch {
    throw new Refused(0, "The server does not answer.");
  }
}

export async function get(path) {
  const response = await answered(await send(path, { headers: headers() }));
  return response.headers.get("content-type")?.includes("json") ? response.json() : response.text();
}

/** An answer, and what the server and the clock say of it. */
export async function post(path, body) {
  const start = performance.now();
  const response = await answered(
    await send(path, {
      method: "POST",
      headers: headers({ "content-type": "application/json" }),
      body: JSON.stringify(body),
    }),
  );
  const answer = await response.json();
  const of = (name) => Number(response.headers.get(`x-${name}`) ?? NaN);
  return {
    answer,
    spent: {
      roundTrip: performance.now() - start,
      server: of("total-time"),
      queue: of("queue-time"),
      model: of("inference-time"),
      tokens: of("compute-tokens"),
    },
  };
}

/** The same request for a terminal. */
export function curl(path, body) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  const authorization = key ? " \\\n  -H \"authorization: Bearer $CLOZE_API_KEY\"" : "";
  return `curl ${location.origin}${path}${authorization} \\\n  -H 'content-type: application/json' \\\n  -d '${quoted}'`;
}
