import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BackingName } from '../../protocol/calls.ts';

/** Where the backing filesystems are mounted. `FUSEGATE_MNT` moves everything below one directory. */
const MNT = process.env['FUSEGATE_MNT'] ?? '/mnt';

/** Mount points of the test go here. In the guest the root is read-only and /run is not. */
export const TEST_AREA = process.env['FUSEGATE_MNT'] === undefined ? '/run/fusegate/test' : join(MNT, 'test');

export function backingPath(name: BackingName): string {
  return join(MNT, name);
}

let made = 0;

/** A fresh directory in one of the places; emptied by `reset`. */
export function makeDirectory(place: 'area' | BackingName, name = 'd'): string {
  const parent = place === 'area' ? TEST_AREA : backingPath(place);
  made += 1;
  const path = join(parent, `${name.replace(/[^\w.-]/g, '_')}-${made}`);
  mkdirSync(path, { recursive: true });
  return path;
}
