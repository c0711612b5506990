import type { Shelled } from './kills.ts';

export interface Tried {
  readonly name: string;
  readonly expected: string;
  readonly seen: string;
  readonly wrong: readonly string[];
}

export interface Chaos {
  readonly seed: number;
  readonly profile: string;
  readonly tried: readonly Tried[];
  readonly shelled: readonly Shelled[];
}

/** Pure: the result as Markdown, for docs/chaos.md. */
export function renderChaos({ seed, profile, tried, shelled }: Chaos): string {
  const hits = shelled.flatMap(({ hits: of }) => of);
  return [
    `Profile ${profile}, seed ${seed}.`,
    '',
    '| fault | expected | seen |',
    '| --- | --- | --- |',
    ...tried.map(
      ({ name, expected, seen, wrong }) => `| ${name} | ${expected} | ${[seen, ...wrong].join('; ')} |`,
    ),
    '',
    `${hits.length} random kills in ${shelled.length} runs; runs with anything wrong: ${shelled.filter(({ wrong }) => wrong.length > 0).length}.`,
    '',
    '| killed | times |',
    '| --- | --- |',
    ...counted(hits.map(({ role }) => role)),
    '',
    '| when | times |',
    '| --- | --- |',
    ...counted(hits.map(({ phase }) => phase)),
    '',
    '| run ended | times |',
    '| --- | --- |',
    ...counted(shelled.map(({ end }) => end)),
    '',
    ...shelled.flatMap(({ how, wrong }) => wrong.map((each) => `- ${how}: ${each}`)),
  ].join('\n');
}

function counted(words: readonly string[]): readonly string[] {
  return [...new Set(words)]
    .sort()
    .map((word) => `| ${word} | ${words.filter((each) => each === word).length} |`);
}
