import { ATTR, ATTR_OUT, u32 } from '../lib/entry-answer.ts';
import { guestTest } from '../lib/guest-test.ts';
import { Witness } from '../lib/witness.ts';

/** A backing file whose own server has said of it what cannot be (another type) is opened no more. */

const DIRECTORY = 0o040_755;

guestTest(
  'a backing file that changed its type is not opened by the open of a passthrough file, which fails (E10)',
  async (t, guest) => {
    guest.needs(guest.expected.reopensBackingFile, 'open of the backing file for each open');
    await using witness = await Witness.mount(guest);
    const { lower, upper } = witness;
    await using client = await guest.client();
    await client.writeFile({ path: upper.backing('f'), data: 'contents' });
    const id = await upper.server.registerBacking({ path: lower.file('f'), flags: 'O_RDWR' });
    const answer = { openFlags: guest.expected.passthroughFlag, backingId: id };
    await upper.answerOpen('OPEN', answer);
    const fd = await client.open({ path: lower.file('f'), flags: 'O_RDONLY' });
    const opens = async (after: number): Promise<string[]> => lower.opcodes({ opcode: 'OPEN', after });

    let after = await lower.position();
    const good = await client.open({ path: upper.file('f'), flags: 'O_RDWR' });
    t.deepEqual(await opens(after), ['OPEN'], 'while it is a file');
    await client.close({ fd: good });

    const action = { do: 'patch', at: ATTR_OUT.attr + ATTR.mode, bytes: u32(DIRECTORY) } as const;
    await lower.rule({ match: { opcode: 'GETATTR' }, times: 1, action });
    t.is(await client.errno.fstat({ fd, flags: 'AT_STATX_FORCE_SYNC' }), 'EIO', 'it is none any more');
    after = await lower.position();
    t.is(await client.errno.open({ path: upper.file('f'), flags: 'O_RDWR' }), 'EIO');
    t.deepEqual(await opens(after), [], 'its server is not asked');
    await client.errno.close({ fd });
    t.is(await upper.server.closeBacking(id), 'ok');
  },
);
