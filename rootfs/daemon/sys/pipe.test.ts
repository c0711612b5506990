import { closeSync, writeSync } from 'node:fs';
import test from 'ava';
import { makePipe, PipeReader, PipeWriter } from './pipe.ts';

const LARGE = Buffer.alloc(1_000_000, 'x');

/** What a reader gets until the end. */
function readAll(fd: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  return new Promise((resolve) => {
    const reader = new PipeReader(
      fd,
      (chunk) => chunks.push(chunk),
      () => {
        reader.stop();
        closeSync(fd);
        resolve(Buffer.concat(chunks).toString());
      },
    );
  });
}

test('pipe: more than fits arrives whole and in order, and the end is told', async (t) => {
  const { readEnd, writeEnd } = makePipe();
  const writer = new PipeWriter(writeEnd);
  writer.write(Buffer.from('first'));
  writer.write(LARGE);
  writer.write(Buffer.from('last'));
  const arrived = Promise.withResolvers<undefined>();
  let seen = '';
  const reader = new PipeReader(
    readEnd,
    (chunk) => {
      seen += Buffer.from(chunk).toString();
      if (seen.endsWith('last')) arrived.resolve(undefined);
    },
    () => undefined,
  );
  await arrived.promise;
  t.is(seen, `first${LARGE.toString()}last`);
  reader.stop();
  writer.close();
  closeSync(readEnd);
});

test('pipe: the end of the writer is the end of what comes', async (t) => {
  const { readEnd, writeEnd } = makePipe();
  const all = readAll(readEnd);
  writeSync(writeEnd, 'words');
  closeSync(writeEnd);
  t.is(await all, 'words');
});

test('pipe: last words are there to be had, and a reader that was stopped gets none', (t) => {
  const { readEnd, writeEnd } = makePipe();
  const seen: string[] = [];
  const reader = new PipeReader(
    readEnd,
    (chunk) => seen.push(Buffer.from(chunk).toString()),
    () => undefined,
  );
  writeSync(writeEnd, 'last words');
  reader.finish();
  t.deepEqual(seen, ['last words']);
  writeSync(writeEnd, 'too late');
  reader.finish();
  t.deepEqual(seen, ['last words']);
  for (const end of [readEnd, writeEnd]) closeSync(end);
});

test('pipe: writing to nobody does no harm', (t) => {
  const { readEnd, writeEnd } = makePipe();
  closeSync(readEnd);
  const writer = new PipeWriter(writeEnd);
  t.notThrows(() => writer.write(Buffer.from('x')));
  t.notThrows(() => writer.write(Buffer.from('y')));
  t.notThrows(() => writer.close());
});
