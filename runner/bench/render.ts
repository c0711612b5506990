import { cleanLine } from '#runner/lib/clean-text.ts';
import type { BenchResult, Figure, Part, Target, Unit } from './figure.ts';

/** Pure: the result for people. The JSON beside it has every sample. */
export function renderMarkdown(result: BenchResult): string {
  const { host, kernel, accelerator } = result;
  const subject = kernel === null ? 'no kernel was prepared' : `Linux ${kernel.release}`;
  const busy = Math.max(host.loadBefore, host.loadAfter) > host.cpus + 1;
  const lines = [
    `# Benchmark of ${result.startedAt}`,
    '',
    `${subject}, profile ${result.profile}, accelerator ${accelerator ?? 'none'}; ` +
      `${host.cpus} × ${cleanLine(host.cpuModel)}, ${host.memoryMib} MiB, Linux ${host.release}; ` +
      `load ${host.loadBefore.toFixed(1)} before, ${host.loadAfter.toFixed(1)} after.`,
    ...(busy ? ['', 'The machine was busy with other work: the times are too long, the ratios hold.'] : []),
    ...result.parts.flatMap(renderPart),
  ];
  return `${lines.join('\n')}\n`;
}

function renderPart(part: Part): readonly string[] {
  const head = ['', `## ${part.title}`, '', part.method];
  const rows = part.figures.map((figure) => `| ${cells(figure).join(' | ')} |`);
  const table = [
    '',
    '| figure | min | median | max | rounds | target | met |',
    '| --- | ---: | ---: | ---: | ---: | --- | --- |',
  ];
  const { notMeasured } = part;
  return [
    ...head,
    ...(rows.length === 0 ? [] : [...table, ...rows]),
    ...(notMeasured === null
      ? []
      : [
          '',
          `Not measured (${notMeasured.code}): ${cleanLine(notMeasured.reason)}`,
          ...(notMeasured.hint === null ? [] : ['', `Hint: ${cleanLine(notMeasured.hint)}`]),
        ]),
  ];
}

function cells({ title, unit, spread, target, met }: Figure): readonly string[] {
  return [
    title,
    quantity(spread.min, unit),
    quantity(spread.median, unit),
    quantity(spread.max, unit),
    String(spread.rounds),
    target === null ? '' : describeTarget(target, unit),
    met === null ? '' : met ? 'yes' : 'no',
  ];
}

function describeTarget({ bound, value }: Target, unit: Unit): string {
  return `${bound} ${quantity(value, unit)}`;
}

export function quantity(value: number, unit: Unit): string {
  switch (unit) {
    case 's':
      return `${value.toFixed(2)} s`;
    case 'times':
      return `${value.toFixed(2)}×`;
    case '%':
      return `${value.toFixed(1)} %`;
    case 'MB':
      return `${value.toFixed(0)} MB`;
    case 'ms':
      return `${value.toFixed(1)} ms`;
    case 'kIOPS':
      return `${value.toFixed(1)} kIOPS`;
    case 'tests':
      return `${value}`;
    case 'requests/s':
      return `${value.toFixed(0)} requests/s`;
    case 'processors':
      return value.toFixed(2);
    case 'tests/s':
      return `${value.toFixed(2)} tests/s`;
  }
}
