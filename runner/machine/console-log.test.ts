import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ConsoleCut } from './console-cut.ts';
import { ConsoleLog } from './console-log.ts';

const BOUNDS = { head: 4096, tail: 8192 };

interface Followed {
  readonly log: ConsoleLog;
  readonly lines: string[];
  readonly notes: string[];
  /** Appends numbered lines of ten bytes. */
  readonly print: (count: number) => Promise<void>;
}

async function follow(t: ExecutionContext): Promise<Followed> {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-console-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'console.log');
  await writeFile(path, '');
  const lines: string[] = [];
  const notes: string[] = [];
  const log = await ConsoleLog.follow(path, {
    onLine: (line) => lines.push(line),
    onNote: (note) => notes.push(note),
    bounds: BOUNDS,
  });
  t.teardown(async () => log[Symbol.asyncDispose]());
  let printed = 0;
  const print = async (count: number): Promise<void> => {
    const text = Array.from({ length: count }, (_, nth) => `${String(printed + nth).padStart(9, '0')}\n`);
    printed += count;
    await appendFile(path, text.join(''));
    await log.drain();
  };
  return { log, lines, notes, print };
}

const CUT = /^fusegate: (\d+) bytes of the console are cut out here$/;

test('console: one that is short stays whole', async (t) => {
  const { log, lines, notes, print } = await follow(t);
  await print(1500);
  t.is(lines.length, 1500);
  t.deepEqual(await log.since(0), lines);
  t.deepEqual(await log.since(14_990), ['000001499']);
  await log[Symbol.asyncDispose]();
  t.is((await readFile(log.path, 'utf8')).length, 15_000);
  t.deepEqual(notes, []);
});

test('console: what is cut out is counted, and a place in it keeps its meaning', async (t) => {
  const { log, lines, notes, print } = await follow(t);
  for (let round = 0; round < 100; round += 1) await print(100);
  const place = log.offset;
  await print(5);
  // Whoever listens hears every line, whatever is kept.
  t.is(lines.length, 10_005);
  t.is(notes.length, 1);
  const check = async (): Promise<void> => {
    const all = await log.since(0);
    const at = all.findIndex((line) => CUT.test(line));
    const cut = Number(CUT.exec(all[at] ?? '')?.[1]);
    t.deepEqual(all.slice(0, at - 1), lines.slice(0, at - 1));
    t.true(cut > 70_000 && 100_050 - cut <= BOUNDS.head + 2 * BOUNDS.tail, String(cut));
    t.deepEqual(all.slice(-800), lines.slice(-800));
    t.deepEqual(await log.since(place), lines.slice(-5));
    const fromWithin = await log.since(BOUNDS.head + 1000);
    t.is(Number(CUT.exec(fromWithin[0] ?? '')?.[1]), cut - 1000);
    t.deepEqual(fromWithin.slice(-800), lines.slice(-800));
  };
  await check();
  const before = await log.since(0);
  await log[Symbol.asyncDispose]();
  await check();
  const file = await readFile(log.path, 'utf8');
  t.deepEqual(file.trimEnd().split('\n'), before);
});

test('console: where nothing can be cut that is said once, and all of it is read', async (t) => {
  const cut = new ConsoleCut('/nowhere/console.log', BOUNDS);
  t.is(await cut.keepSmall(20_000), undefined);
  t.regex((await cut.keepSmall(200_000)) ?? '', /cannot be cut on this file system$/);
  t.is(await cut.keepSmall(300_000), undefined);
  t.deepEqual(cut.parts(10, 300_000), [{ from: 10, to: 300_000 }]);
});
