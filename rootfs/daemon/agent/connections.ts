import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cString } from '../sys/memory.ts';
import { listMounts } from '../sys/mount.ts';
import { syscallSync, valueOf } from '../sys/syscall.ts';

const FUSECTL = '/sys/fs/fuse/connections';

/** The fusectl filesystem has one directory per connection, named by its number. */
export function mountFusectl(): void {
  if (listMounts().some(({ type, mountPoint }) => type === 'fusectl' && mountPoint === FUSECTL)) return;
  const strings = [cString('fusectl'), cString(FUSECTL), cString('fusectl')] as const;
  valueOf('mount fusectl', syscallSync('mount', ...strings, 0, null));
}

export function connectionExists(connection: number): boolean {
  return existsSync(`${FUSECTL}/${connection}`);
}

/** Ends every request of the connection with an error; nothing waits for its server any more. */
export function abortConnection(connection: number): void {
  try {
    writeFileSync(`${FUSECTL}/${connection}/abort`, '1');
  } catch {
    // It is gone already, which is what was wanted.
  }
}

/** Requests that have no answer yet, or null when there is no such connection. */
export function waitingRequests(connection: number): number | null {
  try {
    return Number(readFileSync(`${FUSECTL}/${connection}/waiting`, 'utf8'));
  } catch {
    return null;
  }
}
