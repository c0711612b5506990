import type { Child } from './child.ts';
import type { Children } from './children.ts';
import { CHANGES_THE_PROCESS } from './spoiling.ts';

/** Their arguments name other calls. */
const OF_OTHERS: ReadonlySet<string> = new Set(['batch', 'failNth']);

/**
 * `client.call` and `server.call` as the host writes them, up to the arguments, which come last. A request that is
 * written in another way means the same, and is read as all others are.
 */
const CALL =
  /^\{"id":(\d+),"method":"(client|server)\.call","params":\{"\2":(\d+),"(?:call|method)":"([\w.]+)","timeoutMs":(\d+),"(?:args|params)":/;

/**
 * Gives a call to the process that is to make it, and its answer to the host, without reading what is in them. Under
 * emulation that takes longer than the call: nearly all requests of a test are such.
 * @returns whether that was done; if not, it is for whoever reads the request.
 */
export function passCall(children: Children, text: string, write: (frame: Uint8Array) => void): boolean {
  const match = CALL.exec(text);
  if (match === null) return false;
  const [head, id, role, number, method = '', timeoutMs] = match;
  if (isOurs(method, text)) return false;
  const child: Child | undefined = children.find(Number(number));
  if (child?.alive !== true || child.role !== role) return false;
  // Of the three braces at the end one is the arguments' and one closes the request.
  const message = `{"id":${id},"method":"${method}","params":${text.slice(head.length, -1)}`;
  child.pass({ id: Number(id), method, message, timeoutMs: Number(timeoutMs), write });
  return true;
}

/** What the agent has to see itself: what it does to a process, or what comes of it. */
function isOurs(method: string, text: string): boolean {
  if (OF_OTHERS.has(method)) return [...CHANGES_THE_PROCESS].some((call) => text.includes(`"${call}"`));
  return CHANGES_THE_PROCESS.has(method) || method === 'server.mount';
}
