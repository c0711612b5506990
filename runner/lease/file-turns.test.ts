import test from 'ava';
import { FileTurns } from './file-turns.ts';

const never = new AbortController().signal;

/** What of `promises` has come true by now, by their names. */
async function settled(promises: Readonly<Record<string, Promise<void>>>): Promise<string[]> {
  const done: string[] = [];
  for (const [name, promise] of Object.entries(promises)) {
    void promise.then(
      () => done.push(name),
      () => done.push(`not ${name}`),
    );
  }
  await new Promise((resolve) => setImmediate(resolve));
  return done;
}

test('turns: as many files as there are machines, the others in order, each until it is finished', async (t) => {
  const turns = new FileTurns(2);
  const events: string[] = [];
  const emit = turns.watch((event) => void events.push(event.type));
  const [c, d] = [(): Promise<void> => turns.take('c', never), (): Promise<void> => turns.take('d', never)];
  t.deepEqual(await settled({ a: turns.take('a', never), b: turns.take('b', never) }), ['a', 'b']);
  const waiting = { c: c(), d: d() };
  t.deepEqual(await settled(waiting), []);
  t.deepEqual(await settled({ a: turns.take('a', never) }), ['a'], 'the next test of a file');
  emit({ type: 'file-finished', file: 'b' });
  t.deepEqual(events, ['file-finished'], 'others hear of it, too');
  t.deepEqual(await settled(waiting), ['c']);
  emit({ type: 'file-finished', file: 'unknown' });
  t.deepEqual(await settled({ d: waiting.d }), []);
  emit({ type: 'file-finished', file: 'a' });
  t.deepEqual(await settled({ d: waiting.d }), ['d']);
  emit({ type: 'file-finished', file: 'c' });
  emit({ type: 'file-finished', file: 'd' });
  t.deepEqual(await settled({ e: turns.take('e', never), f: turns.take('f', never) }), ['e', 'f']);
});

test('turns: who has gone away gets none, and takes none from others', async (t) => {
  const turns = new FileTurns(1);
  await turns.take('a', never);
  const gone = new AbortController();
  const first = turns.take('b', gone.signal);
  const second = turns.take('c', never);
  gone.abort(new Error('the test process went away'));
  await t.throwsAsync(first, { message: 'the test process went away' });
  turns.end('a');
  t.deepEqual(await settled({ second }), ['second']);
  await t.throwsAsync(turns.take('d', gone.signal), { message: 'the test process went away' });
});

test('turns: two tests of one file that wait have one turn', async (t) => {
  const turns = new FileTurns(1);
  await turns.take('a', never);
  const [one, two, other] = [turns.take('b', never), turns.take('b', never), turns.take('c', never)];
  turns.end('a');
  t.deepEqual(await settled({ one, two, other }), ['one', 'two']);
  turns.end('b');
  t.deepEqual(await settled({ other }), ['other']);
});
