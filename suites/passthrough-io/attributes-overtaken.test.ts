import type { Client } from '../lib/client.ts';
import { ATTR, ATTR_OUT, ENTRY, u64 } from '../lib/entry-answer.ts';
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

/** How the attributes of `f`, which nobody has, come the first time. */
const FIRST: Readonly<Partial<Record<OpcodeName, (client: Client, fuse: FuseMount) => Promise<unknown>>>> = {
  LOOKUP: (client, fuse) => client.stat({ path: fuse.file('f') }),
  READDIRPLUS: (client, fuse) => client.readdir({ path: fuse.path }),
};

for (const [opcode, bring] of Object.entries(FIRST)) {
  guestTest(
    `attributes of a file that ${opcode} makes known do not count if a file was forgotten meanwhile: it may have been that one`,
    async (t, guest) => {
      guest.needs(guest.expected.idmappedFuse === 'ok', 'count of what is forgotten, which came after 6.1');
      await using client = await guest.client();
      await using other = await guest.client();
      for (const [forgotten, asked] of [
        [false, []],
        [true, ['GETATTR']],
      ] as const) {
        await using fuse = await guest.mountFuse({
          passthrough: 'off',
          init: { dropFlags: ['READDIRPLUS_AUTO'] },
          entryValidS: LONG,
          attrValidS: LONG,
        });
        await client.mkdir({ path: fuse.backing('d') });
        for (const name of ['f', 'd/g']) await client.writeFile({ path: fuse.backing(name), data: name });
        await client.stat({ path: fuse.file('d/g') });
        const hold = await fuse.hold(opcode as OpcodeName);
        const asking = bring(other, fuse);
        asking.catch(() => undefined);
        const request = await hold.arrived();
        if (forgotten) t.is(await fuse.notify({ parent: '/d', name: 'g' }), 'ok');
        await hold.stop();
        await hold.release(request);
        await asking;
        await client.stat({ path: fuse.file('f') });
        const sent = await fuse.opcodes({ opcode: 'GETATTR', path: '/f' });
        t.deepEqual(sent, [...asked], `another file was forgotten meanwhile: ${forgotten}`);
      }
    },
  );
}

guestTest(
  'stat tells the size of the answer that it got, though a truncation has overtaken it',
  async (t, guest) => {
    await using fuse = await guest.mountFuse({ passthrough: 'off', attrValidS: LONG });
    await using client = await guest.client();
    await using other = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'contents' });
    const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDWR' });
    const hold = await fuse.hold('GETATTR');
    const asking = other.stat({ path: fuse.file('f'), flags: 'AT_STATX_FORCE_SYNC' });
    asking.catch(() => undefined);
    const request = await hold.arrived();
    await client.ftruncate({ fd, length: 3 });
    await hold.stop();
    await hold.release(request, { do: 'patch', at: ATTR_OUT.attr + ATTR.size, bytes: u64(7n) });
    t.is((await asking).size, 7, 'who has asked is told the answer');
    t.is((await client.fstat({ fd, flags: 'AT_STATX_DONT_SYNC' })).size, 3, 'which is not what is kept');
    await client.close({ fd });
  },
);
