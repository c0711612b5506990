import { mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { storeEntry, type StoreRequest } from './content-store.ts';

interface Store {
  readonly request: StoreRequest;
  readonly file: string;
  readonly notes: string[];
  /** How often it was made. */
  made: number;
}

async function store(t: ExecutionContext, make?: (dir: string) => Promise<void>): Promise<Store> {
  const root = await mkdtemp(join(tmpdir(), 'store-test-'));
  t.teardown(async () => rm(root, { recursive: true, force: true }));
  const dir = join(root, 'key');
  const notes: string[] = [];
  const result: Store = {
    file: join(dir, 'data'),
    notes,
    made: 0,
    request: {
      dir,
      files: ['data'],
      note: (text) => notes.push(text),
      make: async (draft) => {
        result.made += 1;
        await (make ?? (async (to) => writeFile(join(to, 'data'), 'content')))(draft);
      },
    },
  };
  return result;
}

test('store: an entry is made once and then found', async (t) => {
  const entry = await store(t);
  t.deepEqual(await storeEntry(entry.request), { cached: false });
  t.deepEqual(await storeEntry(entry.request), { cached: true });
  t.is(entry.made, 1);
  t.is(await readFile(entry.file, 'utf8'), 'content');
});

test('store: several at once make it once', async (t) => {
  const entry = await store(t);
  const results = await Promise.all([1, 2, 3].map(async () => storeEntry(entry.request)));
  t.is(entry.made, 1);
  t.is(results.filter(({ cached }) => cached).length, 2);
});

test('store: a truncated, a missing and a changed file each make the entry anew', async (t) => {
  const entry = await store(t);
  await storeEntry(entry.request);
  const damages = [
    async () => writeFile(entry.file, 'cont'),
    async () => rm(entry.file),
    async () => writeFile(entry.file, 'CONTENT'),
    async () => writeFile(join(entry.request.dir, 'entry.json'), '{"schema": 1,'),
  ];
  for (const damage of damages) {
    // Far enough from the recorded time, however coarse the clock of the filesystem is.
    await damage();
    await utimes(entry.file, 1, 1).catch(() => undefined);
    t.deepEqual(await storeEntry(entry.request), { cached: false });
    t.is(await readFile(entry.file, 'utf8'), 'content');
  }
  t.is(entry.made, 5);
  t.is(entry.notes.length, 4);
  t.regex(entry.notes[0] ?? '', /is damaged; making it anew$/);
});

test('store: the same content under another time is kept, and its time put right', async (t) => {
  const entry = await store(t);
  await storeEntry(entry.request);
  const { mtimeMs } = await stat(entry.file);
  await utimes(entry.file, 1000, 1000);
  t.deepEqual(await storeEntry(entry.request), { cached: true });
  t.is(Math.round((await stat(entry.file)).mtimeMs), Math.round(mtimeMs));
});

test('store: a failed attempt leaves nothing, and what a killed one left is removed', async (t) => {
  let fail = true;
  const entry = await store(t, async (dir) => {
    t.deepEqual(await readdir(dir), []);
    await writeFile(join(dir, 'data'), 'content');
    if (fail) throw new Error('no space');
  });
  await t.throwsAsync(storeEntry(entry.request), { message: 'no space' });
  await t.throwsAsync(stat(entry.request.dir), { code: 'ENOENT' });
  fail = false;
  t.deepEqual(await storeEntry(entry.request), { cached: false });
});
