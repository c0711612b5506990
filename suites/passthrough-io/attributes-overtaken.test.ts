import type { Client } from '../lib/client.ts';
import { ATTR, ENTRY, u64 } from '../lib/entry-answer.ts';
import type { OpcodeName } from '../lib/fuse-abi.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';

/** Attributes that come beside a name, and were asked for before the file became another. */

/** Longer than any test. Seconds. */
const LONG = 100_000;
/** `fuse_direntplus` of each of the two dots, before the first name of a list. */
const DOTS = 2 * (128 + 32);
const SIZE = ENTRY.attr + ATTR.size;

interface Way {
  readonly opcode: OpcodeName;
  readonly ask: (client: Client, fuse: FuseMount, nth: number) => Promise<unknown>;
  /** Where the answer has the size of the file. */
  readonly at: number;
}

/** How attributes of `f`, which is open, come again. */
const WAYS: Readonly<Record<string, Way>> = {
  'a LOOKUP of its name': {
    opcode: 'LOOKUP',
    ask: (client, fuse) => client.stat({ path: fuse.file('f') }),
    at: SIZE,
  },
  'a LOOKUP of another of its names': {
    opcode: 'LOOKUP',
    // A new one each time: one that is known already is only looked at again.
    ask: async (client, fuse, nth) => {
      await client.link({ from: fuse.backing('f'), to: fuse.backing(`g${nth}`) });
      await client.stat({ path: fuse.file(`g${nth}`) });
    },
    at: SIZE,
  },
  'a list with attributes': {
    opcode: 'READDIRPLUS',
    ask: (client, fuse) => client.readdir({ path: fuse.path }),
    at: DOTS + SIZE,
  },
};

for (const [what, { opcode, ask, at }] of Object.entries(WAYS)) {
  guestTest(
    `a size that ${what} brings counts, but not one that is older than a truncation (A41)`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({
        passthrough: 'off',
        init: { dropFlags: ['READDIRPLUS_AUTO'] },
        entryValidS: 0,
        attrValidS: LONG,
      });
      await using client = await guest.client();
      await using other = await guest.client();
      await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
      for (const [told, truncated] of [
        [6, false],
        [7, true],
      ] as const) {
        const hold = await fuse.hold(opcode);
        const asking = ask(other, fuse, told);
        asking.catch(() => undefined);
        const request = await hold.arrived();
        if (truncated) await client.ftruncate({ fd, length: 3 });
        await hold.stop();
        await hold.release(request, { do: 'patch', at, bytes: u64(BigInt(told)) });
        await asking;
        const { size } = await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' });
        t.is(size, truncated ? 3 : told, `the answer says ${told}, truncated meanwhile: ${truncated}`);
      }
      await client.close({ fd });
    },
  );
}
