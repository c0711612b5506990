import { firstDifference, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, ENTRY, u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag, type Rule } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Calls for which several requests are sent at once, or one for several pages: what becomes of their answers. */

const PAGE = 4096;
/** Longer than any test. Seconds. */
const LONG = 100_000;
/** The largest offset that there is, and where its page begins. */
const LAST = (1n << 63n) - 1n;
const LAST_PAGE = 2 ** 63 - PAGE;

const error = (errno: string): Rule['action'] => ({ do: 'error', errno });
const some = (length: number): Rule['action'] => ({ do: 'body', body: pattern(length) });
const written = (length: number): Rule['action'] => ({
  do: 'body',
  body: new Uint8Array([...u32(length), ...u32(0)]),
});

interface Outcome {
  readonly opcode: 'READ' | 'WRITE';
  /** The answers in their order: to which of the two requests, and what. */
  readonly answers: readonly (readonly [0 | 1, Rule['action']])[];
  readonly gives: number | string;
}

const OUTCOMES: Readonly<Record<string, Outcome>> = {
  'two errors, the first request answered first': {
    opcode: 'READ',
    answers: [
      [0, error('ENXIO')],
      [1, error('EACCES')],
    ],
    gives: 'ENXIO',
  },
  'two errors, the second request answered first': {
    opcode: 'READ',
    answers: [
      [1, error('EACCES')],
      [0, error('ENXIO')],
    ],
    gives: 'EACCES',
  },
  'a short answer, and then an error': {
    opcode: 'READ',
    answers: [
      [0, some(100)],
      [1, error('ENXIO')],
    ],
    gives: 'ENXIO',
  },
  'an error, and then a whole answer': {
    opcode: 'READ',
    answers: [
      [1, error('ENXIO')],
      [0, some(PAGE)],
    ],
    gives: 'ENXIO',
  },
  'two errors of writes': {
    opcode: 'WRITE',
    answers: [
      [1, error('EDQUOT')],
      [0, error('ENOSPC')],
    ],
    gives: 'EDQUOT',
  },
  'a write in part, and then an error': {
    opcode: 'WRITE',
    answers: [
      [0, written(100)],
      [1, error('ENOSPC')],
    ],
    gives: 'ENOSPC',
  },
  'a write in part, and then one in full': {
    opcode: 'WRITE',
    answers: [
      [0, written(100)],
      [1, written(PAGE)],
    ],
    gives: 'EIO',
  },
  'two writes in full': {
    opcode: 'WRITE',
    answers: [
      [1, written(PAGE)],
      [0, written(PAGE)],
    ],
    gives: 2 * PAGE,
  },
};

guestTest(
  'of requests of one call that are sent at once the first error that is answered is that of the call',
  async (t, guest) => {
    const init = { addFlags: ['ASYNC_DIO'], maxWrite: PAGE } as const;
    await using fuse = await guest.mountFuse({ passthrough: 'off', init, maxRead: PAGE });
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: pattern(2 * PAGE) });
    await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR|O_DIRECT' });
    for (const [what, { opcode, answers, gives }] of Object.entries(OUTCOMES)) {
      const hold = await fuse.hold(opcode);
      const calling = client.aio({
        operations: [
          opcode === 'READ'
            ? { op: 'pread', fd, count: 2 * PAGE, offset: 0 }
            : { op: 'pwrite', fd, data: pattern(2 * PAGE), offset: 0 },
        ],
      });
      calling.catch(() => undefined);
      const held = [await hold.arrived(), await hold.arrived()];
      held.sort((one, other) => Number(one.args['offset']) - Number(other.args['offset']));
      for (const [which, action] of answers) {
        const request = held[which];
        if (request !== undefined) await hold.release(request, action);
      }
      await hold.stop();
      t.is((await calling)[0]?.result, gives, what);
    }
    await client.close({ fd });
  },
);

/** Where a file that ends with the last offset is read to its end, in pages in front of the last one. */
const BEGINS = [1, 3];

/** Has the server say that the file is as large as a file can be. */
const SIZE = { do: 'patch', bytes: u64(LAST) } as const;

async function readToTheEnd(client: Client, fd: number, pages: number): Promise<Uint8Array> {
  return client.pread({ fd, count: (pages + 1) * PAGE - 1, offset: LAST_PAGE - pages * PAGE });
}

guestTest(
  'the last pages that a file can have are read in one request but for the byte behind all offsets',
  async (t, guest) => {
    await using client = await guest.client();
    for (const pages of BEGINS) {
      const init = { dropFlags: ['AUTO_INVAL_DATA'] } as const;
      await using fuse = await guest.mountFuse({ passthrough: 'off', init, attrValidS: LONG });
      await fuse.rule({
        match: { opcode: 'LOOKUP', path: '/f' },
        action: { ...SIZE, at: ENTRY.attr + ATTR.size },
      });
      await fuse.rule({
        match: { opcode: 'GETATTR', path: '/f' },
        action: { ...SIZE, at: ATTR_OUT.attr + ATTR.size },
      });
      await client.writeFile({ path: fuse.backing('f'), data: '' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      const body = pattern((pages + 1) * PAGE - 1, 3);
      await fuse.rule({ match: { opcode: 'READ' }, action: { do: 'body', body } });
      const seen = await readToTheEnd(client, fd, pages);
      t.is(firstDifference(seen, body), undefined, `${pages} pages and the last one: what is read`);
      const sizes = (await fuse.requests('READ')).map(({ args }) => args['size']);
      t.deepEqual(sizes, [body.length], `${pages} pages and the last one: what is asked for`);
      await client.close({ fd });
    }
  },
);
