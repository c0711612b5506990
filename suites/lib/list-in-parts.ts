import type { ExecutionContext } from 'ava';
import type { Client } from './client.ts';

/** Of a call. Bytes: room for two or three short names. */
const ROOM = 80;

/** Asserts that a directory has these names, each once, read a few at a time, and again from where each part began. */
export async function isListedInParts(
  t: ExecutionContext,
  client: Client,
  { path, names }: { readonly path: string; readonly names: readonly string[] },
): Promise<void> {
  const fd = await client.open({ path, flags: 'O_RDONLY|O_DIRECTORY' });
  const parts: { position: number; names: string[] }[] = [];
  for (let done = false; !done;) {
    const position = await client.lseek({ fd, offset: 0, whence: 'SEEK_CUR' });
    const part = await client.readdirFd({ fd, bytes: ROOM });
    done = part.length === 0;
    if (!done) parts.push({ position, names: part });
  }
  t.true(parts.length > 4, 'several parts');
  t.deepEqual(parts.flatMap((part) => part.names).sort(), ['.', '..', ...names].sort(), 'each name once');
  for (const { position, names: part } of parts.toReversed()) {
    t.is(await client.lseek({ fd, offset: position, whence: 'SEEK_SET' }), position);
    t.deepEqual(await client.readdirFd({ fd, bytes: ROOM }), part, `sought to ${position}`);
  }
  await client.close({ fd });
}
