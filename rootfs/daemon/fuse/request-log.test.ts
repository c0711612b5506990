import test from 'ava';
import { RequestLog } from './request-log.ts';

const base = {
  opcode: 'READ',
  unique: 1,
  nodeid: 2,
  path: '/f',
  uid: 0,
  gid: 0,
  pid: 1,
  args: {},
  arrivedMs: 0,
} as const;
const answered = { error: null, bytes: 16, refused: null, atMs: 1 };

test('a request that has come already is found at once', async (t) => {
  const log = new RequestLog();
  log.add(base, null);
  t.is((await log.wait({ opcode: 'READ' }, 'arrived')).seq, 1);
});

test('a wait for the answer ends with the answer', async (t) => {
  const log = new RequestLog();
  const seq = log.add(base, null);
  const wait = log.wait({ opcode: 'READ' }, 'answered');
  log.markAnswered(seq, answered);
  t.deepEqual((await wait).reply, answered);
});

test('a held request is waited for until it is answered', async (t) => {
  const log = new RequestLog();
  const wait = log.wait({}, 'held');
  const seq = log.add(base, null);
  log.markHeld(seq);
  t.is((await wait).seq, seq);
  log.markAnswered(seq, answered);
  t.false(log.find({})[0]?.held);
});

test('a query after a position leaves out what was before', (t) => {
  const log = new RequestLog();
  log.add(base, null);
  log.add({ ...base, opcode: 'WRITE' }, null);
  t.deepEqual(
    log.find({ after: 1 }).map(({ opcode }) => opcode),
    ['WRITE'],
  );
  t.is(log.lastSeq, 2);
});
