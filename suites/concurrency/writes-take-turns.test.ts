import type { Client } from '../lib/client.ts';
import { eventually } from '../lib/eventually.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { Witness } from '../lib/witness.ts';

type Write = (client: Client, fd: number) => Promise<number>;

const WRITES: Readonly<Record<string, Write>> = {
  write: (client, fd) => client.pwrite({ fd, data: 'ab', offset: 0 }),
  splice: async (client, fd) => {
    const [fdIn, end] = await client.pipe({});
    await client.write({ fd: end, data: 'ab' });
    return client.splice({ fdIn, fdOut: fd, offOut: 4, length: 2 });
  },
};

guestTest(
  'writes of one passthrough file reach the backing file one after the other (G1)',
  async (t, guest) => {
    guest.needs(
      guest.expected.hasIoModes,
      'lock of FUSE around passthrough writes: that of the backing file counts',
    );
    await using witness = await Witness.mount(guest);
    // By itself the lower filesystem would take them at once.
    const openFlags = OpenFlag.DIRECT_IO | OpenFlag.PARALLEL_DIRECT_WRITES;
    await witness.lower.answerOpen({ opcode: ['OPEN', 'CREATE'] }, { openFlags });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: witness.upper.backing('f'), data: '0123456789' });
    const path = witness.upper.file('f');
    const [one, two] = [
      await client.open({ path, flags: 'O_RDWR' }),
      await other.open({ path, flags: 'O_RDWR' }),
    ];
    for (const [first, firstWrite] of Object.entries(WRITES)) {
      for (const [second, secondWrite] of Object.entries(WRITES)) {
        const hold = await witness.lower.hold('WRITE');
        const after = await witness.lower.position();
        const writing = [firstWrite(client, one)];
        const request = await hold.arrived();
        writing.push(secondWrite(other, two));
        for (const each of writing) each.catch(() => undefined);
        const arrived = async () => (await witness.lower.requests({ opcode: 'WRITE', after })).length;
        const waits = (where: string) =>
          /fuse_|passthrough/.test(where) && !where.includes('request_wait_answer');
        const where = await eventually(
          async () => ((await arrived()) > 1 ? 'both are below' : await guest.where(other.pid)),
          (seen) => seen === 'both are below' || waits(seen),
        );
        t.true(waits(where), `a ${second} waits for a ${first} that is under way: ${where}`);
        t.is(await arrived(), 1, `${second} after ${first}`);
        await hold.stop();
        await hold.release(request);
        t.deepEqual(await Promise.all(writing), [2, 2]);
      }
    }
    await client.close({ fd: one });
    await other.close({ fd: two });
    t.deepEqual(await witness.upper.dataRequests(), []);
  },
);
