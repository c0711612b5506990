import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { RunEvent } from '#runner/lib/events.ts';
import { FileDurations } from './file-durations.ts';

test('durations: what a run took is known to the next, file by file', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-durations-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'sub', 'record.json');
  const first = await FileDurations.load('', path);
  t.is(first.expectedMs('suites/area/file.test.ts'), undefined);
  const events: RunEvent[] = [];
  const emit = first.watch((event) => void events.push(event));
  emit(finished('area/file: one', 100));
  emit(finished('area/file: two', 50));
  emit(finished('area/file-two: other', 7));
  emit({ ...finished('area/file: never', 0), outcome: 'not-run' });
  t.is(events.length, 4);
  await first.save();
  const second = await FileDurations.load('', path);
  t.is(second.expectedMs('suites/area/file.test.ts'), 150);
  t.is(second.expectedMs('suites/area/file-two.test.ts'), 7);
  t.false((await readFile(path, 'utf8')).includes('never'));
});

test('durations: a broken record is none, and one that cannot be written costs nothing', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'fusegate-durations-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  const path = join(dir, 'record.json');
  await writeFile(path, '{"area/file: one": "soon"');
  const broken = await FileDurations.load('', path);
  t.is(broken.expectedMs('suites/area/file.test.ts'), undefined);
  const nowhere = await FileDurations.load('', join(path, 'below-a-file.json'));
  await t.notThrowsAsync(nowhere.save());
});

function finished(id: string, durationMs: number): RunEvent & { type: 'test-finished' } {
  return {
    ...{ type: 'test-finished', id, durationMs, area: 'area', title: 'title' },
    ...{ outcome: 'passed', message: null, evidence: [] },
  };
}
