charts.mount(element, props, watch, data => trigger('point', data));
